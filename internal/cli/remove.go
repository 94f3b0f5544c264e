package cli

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/vmcore"
)

func removeCommand() command {
	return command{
		name:  "remove",
		args:  "VMCORE...",
		short: "take the note out again",
		long: `Takes the VMCSINFO note out of a dump. If memory had to shift to make room for
the note, it shifts back, and what was split is joined: after inject and remove
the file is the original byte for byte. Exceptions: what moved to the end of the
file stays there (evict, and end of a kdump-compressed dump), and of a flattened
dump only the plain form is the original. Notes and memory are always the same.
A core without the note stays as it is. If it has several notes of that name,
the last one is taken out.`,
		setup: func(fs *pflag.FlagSet) runner {
			noteName := fs.String("name", elfnote.VMCSInfo, "`NAME` of the note")
			var chg changeFlags
			chg.add(fs)
			return func(ctx context.Context, e *env, args []string) error {
				return chg.change(ctx, e, args, func(_ context.Context, _ *env, c vmcore.Core, _ bool, r *changeReport) (decision, error) {
					s := c.Notes()
					is := byName(s, *noteName)
					if len(is) == 0 {
						return decision{why: "it has no " + message.Name(*noteName) + " note"}, nil
					}
					last := is[len(is)-1]
					sp := s.Remove(last)
					r.NoteSize = int(s.Notes[last].DescSize)
					why := message.Name(*noteName) + " removed, " + message.Size(s.Notes[last].DescSize)
					if more := len(is) - 1; more > 0 {
						why += fmt.Sprintf(", the last of %d", len(is))
					}
					return decision{sp, sp, why}, nil
				})
			}
		},
	}
}
