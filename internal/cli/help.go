package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

func helpCommand() command {
	return command{
		name:  "help",
		args:  "[COMMAND]",
		short: "print what a command does and its flags",
		setup: func(*pflag.FlagSet) runner { return showHelp },
	}
}

// showHelp prints the help of one command, or the list of all.
func showHelp(_ context.Context, e *env, args []string) error {
	if len(args) == 0 {
		_, err := io.WriteString(e.Stdout, overview())
		return err
	}
	word, err := oneArg(args, "COMMAND")
	if err != nil {
		return err
	}
	c, err := commandNamed(word)
	if err != nil {
		return err
	}
	return e.help(c)
}

// overview lists the commands.
func overview() string {
	var b strings.Builder
	b.WriteString("vmcsnote lists the virtual machines in Linux crash dumps, and puts the VMCSINFO\nnote into them.\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(w, "  vmcsnote %s\t%s\n", strings.TrimSpace(c.name+" "+c.args), c.short)
	}
	w.Flush()
	b.WriteString(`
Exit status: 0 done, or nothing to do; 1 failed, nothing changed; 2 wrong usage;
3 no VMCSINFO available.
`)
	return b.String()
}

func (e *env) help(c command) error {
	fs, _ := c.flags()
	usage := "usage: vmcsnote " + c.name
	if fs.HasFlags() {
		usage += " [FLAGS]"
	}
	if c.args != "" {
		usage += " " + c.args
	}
	s := usage + "\n\n"
	if c.long != "" {
		s += c.long + "\n"
	} else {
		s += strings.ToUpper(c.short[:1]) + c.short[1:] + ".\n"
	}
	if fs.HasFlags() {
		s += "\n" + flagUsages(fs)
	}
	_, err := fmt.Fprint(e.Stdout, s)
	return err
}

// flagUsages lists the flags. pflag's own list says of every switch that it may
// be set to true or false.
func flagUsages(fs *pflag.FlagSet) string {
	var b strings.Builder
	fs.VisitAll(func(f *pflag.Flag) {
		arg, usage := pflag.UnquoteUsage(f)
		flag := "    --" + f.Name
		if f.Shorthand != "" {
			flag = "-" + f.Shorthand + ", --" + f.Name
		}
		if f.Value.Type() != "bool" {
			flag += " " + arg
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&b, "  %s\n        %s\n", flag, strings.Join(wrap(usage, 72), "\n        "))
	})
	return b.String()
}

// wrap breaks text into lines of at most width bytes, at spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
