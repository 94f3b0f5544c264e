package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A verdict is what verify has to say of one file. Its JSON names are fixed.
type verdict struct {
	File     string    `json:"file"`
	Format   string    `json:"format,omitempty"`
	OK       bool      `json:"ok"`
	Error    string    `json:"error,omitempty"` // why it could not be opened
	Findings []finding `json:"findings"`
}

type finding struct {
	Fault   bool   `json:"fault"`
	Text    string `json:"text"`
	Readers string `json:"readers"` // which choke on it, and how
}

func verifyCommand() command {
	return command{
		name:  "verify",
		args:  "VMCORE...",
		short: "check that a core is whole, and that its readers will read it",
		long: `Checks what crash, makedumpfile, libkdumpfile, drgn, readelf and eu-readelf need
in a core, and prints which of them would fail, and where. For the core of a
process it checks what gdb, eu-stack and readelf need. A fault makes the exit
status 1; a remark, about something that all cores by the same writer have, does
not.

With --armed it checks this machine instead of a core: whether kdump is loaded,
the note published and recorded, and the program, the record and the hook where
the capture kernel finds them. The exit status is 0 if the machine is armed, and
3 if there is nothing to record: the processor is not Intel's, or has no VMX.`,
		setup: func(fs *pflag.FlagSet) runner {
			asJSON := fs.Bool("json", false, "print one JSON document: a list with an entry for each file")
			deep := fs.Bool("deep", false, "decompress every page of a compressed dump, too")
			jobs := jobsFlag(fs)
			check := fs.Bool("armed", false, "check whether this machine's next dump will get its note")
			var f armedFlags
			fs.StringVar(&f.image, "initrd", "", "with --armed, the capture initramfs is `FILE`")
			fs.StringVar(&f.root, "root", "/", "with --armed, look for everything below `DIR`")
			return func(ctx context.Context, e *env, args []string) error {
				switch {
				case *check && len(args) > 0:
					return usagef("--armed checks this machine, not cores")
				case *check:
					f.json = *asJSON
					return f.run(e)
				case f.image != "" || f.root != "/":
					return usagef("--initrd and --root go with --armed")
				case len(args) == 0:
					return usagef("VMCORE is missing")
				}
				verdicts, err := each(e, args, *jobs, func(e *env, path string) (verdict, error) {
					v := e.verifyFile(ctx, path, *deep)
					if !*asJSON {
						if err := e.verdict(v); err != nil {
							return v, err
						}
					}
					if !v.OK {
						return v, errFindings
					}
					return v, nil
				})
				if *asJSON && verdicts != nil {
					if err := e.json(verdicts); err != nil {
						return err
					}
				}
				return err
			}
		},
	}
}

func (e *env) verifyFile(ctx context.Context, path string, deep bool) verdict {
	v := verdict{File: path, OK: true, Findings: []finding{}}
	c, err := e.open(ctx, path, vmcore.Open, true)
	if err != nil {
		v.OK, v.Error = false, named(path, err).Error()
		return v
	}
	defer c.Close()
	v.Format = c.Format()
	verify := c.Verify
	if deep {
		verify = func() []vmcore.Finding { return vmcore.VerifyDeep(ctx, c) }
	}
	for _, f := range verify() {
		v.Findings = append(v.Findings, finding{!f.Remark, f.Text, f.Readers})
		v.OK = v.OK && f.Remark
	}
	if n, ok := readVMCSInfo(c.Core); ok {
		if _, err := vmcs.ParseNote(n.Desc); err != nil {
			v.Findings = append(v.Findings, finding{false, fmt.Sprintf("no VMCS layout can be read from the VMCSINFO note: %v", err), "vmcsnote guests"})
		}
	}
	return v
}

// readVMCSInfo returns the core's VMCSINFO note, if it has one of a sane size.
func readVMCSInfo(c vmcore.Core) (elfnote.Note, bool) {
	return c.Notes().Get(elfnote.VMCSInfo, elfnote.MaxBlob)
}

// verdict tells a person what verify found.
func (e *env) verdict(v verdict) error {
	var b strings.Builder
	switch {
	case v.Error != "":
		fmt.Fprintf(&b, "%s\n", v.Error)
	case v.OK:
		fmt.Fprintf(&b, "%s: ok\n", v.File)
	default:
		fmt.Fprintf(&b, "%s: not ok\n", v.File)
	}
	for _, f := range v.Findings {
		kind := "remark"
		if f.Fault {
			kind = "fault"
		}
		fmt.Fprintf(&b, "  %s: %s\n    %s\n", kind, f.Text, f.Readers)
	}
	_, err := io.WriteString(e.Stdout, b.String())
	return err
}
