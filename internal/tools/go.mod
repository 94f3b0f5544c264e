// Programs that check this project. They are a module of their own because
// staticcheck needs a newer Go than vmcsnote does, and a tool directive in the
// main go.mod would raise that file's Go version, and its versions of
// golang.org/x modules, with it.
//
//	go tool -modfile=internal/tools/go.mod staticcheck ./...
module vmcsnote/internal/tools

go 1.26.0

tool honnef.co/go/tools/cmd/staticcheck

require (
	github.com/BurntSushi/toml v1.4.1-0.20240526193622-a339e1f7089c // indirect
	golang.org/x/exp/typeparams v0.0.0-20231108232855-2478ac86f678 // indirect
	golang.org/x/mod v0.41.0 // indirect
	golang.org/x/sync v0.23.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	honnef.co/go/tools v0.8.2 // indirect
)
