package cli

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/pflag"
)

// version is what this is; scripts/package sets it to more. It is part of no
// output that anyone compares.
var version = "0.1.0"

func versionCommand() command {
	return command{
		name:  "version",
		short: "print the version",
		setup: func(*pflag.FlagSet) runner {
			return func(_ context.Context, e *env, args []string) error {
				if len(args) > 0 {
					return usagef("version takes no arguments")
				}
				_, err := fmt.Fprintf(e.stdout, "vmcsnote %s %s/%s\n", version, runtime.GOOS, runtime.GOARCH)
				return err
			}
		},
	}
}
