package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
)

// version is the next release. scripts/package sets it to the version of the
// package. It is part of no output that anyone compares.
var version = "0.1.0"

// built returns v with the commit that it was built from, if the go command
// recorded one. It does so in a clone with git; scripts/package, which has put
// the commit into v already, tells it not to.
func built(v string, info *debug.BuildInfo) string {
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = "-g" + s.Value[:min(len(s.Value), 8)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return v
	}
	return v + revision + dirty
}

func versionCommand() command {
	return command{
		name:  "version",
		short: "print the version",
		setup: func(*pflag.FlagSet) runner {
			return func(_ context.Context, e *env, args []string) error {
				if len(args) > 0 {
					return usagef("version takes no arguments")
				}
				v := version
				if info, ok := debug.ReadBuildInfo(); ok {
					v = built(v, info)
				}
				_, err := fmt.Fprintf(e.Stdout, "vmcsnote %s %s/%s\n", v, runtime.GOOS, runtime.GOARCH)
				return err
			}
		},
	}
}
