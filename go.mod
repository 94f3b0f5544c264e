module vmcsnote

go 1.25.0

require (
	github.com/anchore/go-lzo v0.1.1
	github.com/klauspost/compress v1.20.4
	github.com/pkg/errors v0.9.1
	github.com/rogpeppe/go-internal v1.16.0
	github.com/spf13/pflag v1.1.0
	golang.org/x/sys v0.47.0
)

require golang.org/x/tools v0.49.0 // indirect
