// Vmcsnote lists the virtual machines in Linux crash dumps, and puts the
// VMCSINFO note into them.
package main

import (
	"os"
	"runtime/debug"

	"vmcsnote/internal/cli"
)

func main() {
	// Memory is scarce where a dump is saved, and what is kept of one is small:
	// collect garbage four times as eagerly as usual.
	debug.SetGCPercent(25)
	os.Exit(cli.Main(os.Args[1:]))
}
