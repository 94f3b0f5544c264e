package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

func completionCommand() command {
	return command{
		name:  "completion",
		args:  "SHELL",
		short: "print a completion script for bash, zsh or fish",
		setup: func(*pflag.FlagSet) runner {
			return func(_ context.Context, e *env, args []string) error {
				shell, err := oneArg(args, "SHELL")
				if err != nil {
					return err
				}
				script := map[string]func() string{"bash": bash, "zsh": zsh, "fish": fish}[shell]
				if script == nil {
					return usagef("no completion for %q: bash, zsh or fish", shell)
				}
				_, err = fmt.Fprint(e.stdout, script())
				return err
			}
		},
	}
}

// The scripts are made from the flag sets, so that none is forgotten.

// values are what flags and commands take that are no files.
var values = map[string]string{
	"memory":     "auto vmcore devmem kcore",
	"placement":  "slack end clone evict copy",
	"format":     "same plain",
	"completion": "bash zsh fish",
}

// flagsOf calls each for each flag of c.
func flagsOf(c command, each func(*pflag.Flag)) {
	fs, _ := c.flags()
	fs.VisitAll(each)
}

func names() (all []string) {
	for _, c := range commands() {
		all = append(all, c.name)
	}
	return all
}

func bash() string {
	var b strings.Builder
	b.WriteString("# bash completion for vmcsnote\n_vmcsnote() {\n" +
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n" +
		"\tCOMPREPLY=()\n\tcase $prev in\n")
	for _, f := range []string{"memory", "placement", "format"} {
		fmt.Fprintf(&b, "\t--%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", f, values[f])
	}
	b.WriteString("\tesac\n\tif ((COMP_CWORD == 1)); then\n" +
		"\t\tCOMPREPLY=($(compgen -W '" + strings.Join(names(), " ") + "' -- \"$cur\"))\n\t\treturn\n\tfi\n" +
		"\tcase ${COMP_WORDS[1]} in\n")
	for _, c := range commands() {
		var flags []string
		flagsOf(c, func(f *pflag.Flag) {
			if f.Shorthand != "" {
				flags = append(flags, "-"+f.Shorthand)
			}
			flags = append(flags, "--"+f.Name)
		})
		words := strings.Join(flags, " ")
		if c.name == "help" {
			words = strings.Join(names(), " ")
		} else if v := values[c.name]; v != "" {
			words = v
		}
		fmt.Fprintf(&b, "\t%s) words='%s' ;;\n", c.name, words)
	}
	b.WriteString("\tesac\n\tif [[ $cur == -* || ${COMP_WORDS[1]} == @(help|completion) ]]; then\n" +
		"\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n\telse\n\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n\tfi\n}\n" +
		"complete -o filenames -F _vmcsnote vmcsnote\n")
	return b.String()
}

func zsh() string {
	var b strings.Builder
	b.WriteString("#compdef vmcsnote\n_vmcsnote() {\n\tlocal -a commands=(\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "\t\t%s\n", quote(c.name+":"+c.short))
	}
	b.WriteString("\t)\n\tif ((CURRENT == 2)); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n" +
		"\tlocal cmd=$words[2]\n\tshift words\n\t((CURRENT--))\n\tcase $cmd in\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "\t%s) _arguments", c.name)
		flagsOf(c, func(f *pflag.Flag) {
			spec := "[" + strings.NewReplacer("[", "(", "]", ")", ":", `\:`).Replace(usageOf(f)) + "]"
			if f.Value.Type() != "bool" {
				spec += ":" + argOf(f) + ":" + zshAction(f.Name)
			}
			fmt.Fprintf(&b, " \\\n\t\t%s", quote("--"+f.Name+spec))
			if f.Shorthand != "" {
				fmt.Fprintf(&b, " \\\n\t\t%s", quote("-"+f.Shorthand+spec))
			}
		})
		switch {
		case c.name == "help":
			fmt.Fprintf(&b, " %s", quote("1:command:("+strings.Join(names(), " ")+")"))
		case values[c.name] != "":
			fmt.Fprintf(&b, " %s", quote("1:shell:("+values[c.name]+")"))
		case c.args != "":
			fmt.Fprintf(&b, " %s", quote("*:file:_files"))
		}
		b.WriteString(" ;;\n")
	}
	b.WriteString("\tesac\n}\nif [[ $funcstack[1] == _vmcsnote ]]; then _vmcsnote \"$@\"; else compdef _vmcsnote vmcsnote; fi\n")
	return b.String()
}

func fish() string {
	var b strings.Builder
	b.WriteString("# fish completion for vmcsnote\ncomplete -c vmcsnote -f\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "complete -c vmcsnote -n __fish_use_subcommand -a %s -d %s\n", c.name, quote(c.short))
		when := quote("__fish_seen_subcommand_from " + c.name)
		flagsOf(c, func(f *pflag.Flag) {
			fmt.Fprintf(&b, "complete -c vmcsnote -n %s -l %s -d %s", when, f.Name, quote(usageOf(f)))
			if f.Shorthand != "" {
				fmt.Fprintf(&b, " -s %s", f.Shorthand)
			}
			switch {
			case values[f.Name] != "":
				fmt.Fprintf(&b, " -x -a %s", quote(values[f.Name]))
			case f.Value.Type() != "bool":
				b.WriteString(" -r -F")
			}
			b.WriteString("\n")
		})
		switch {
		case c.name == "help":
			fmt.Fprintf(&b, "complete -c vmcsnote -n %s -a %s\n", when, quote(strings.Join(names(), " ")))
		case values[c.name] != "":
			fmt.Fprintf(&b, "complete -c vmcsnote -n %s -a %s\n", when, quote(values[c.name]))
		case c.args != "":
			fmt.Fprintf(&b, "complete -c vmcsnote -n %s -F\n", when)
		}
	}
	return b.String()
}

// usageOf returns a flag's description without the quotes around its argument.
func usageOf(f *pflag.Flag) string {
	_, usage := pflag.UnquoteUsage(f)
	return usage
}

func argOf(f *pflag.Flag) string {
	arg, _ := pflag.UnquoteUsage(f)
	return strings.Trim(strings.ReplaceAll(arg, `"`, ""), " ")
}

func zshAction(flag string) string {
	switch {
	case values[flag] != "":
		return "(" + values[flag] + ")"
	case flag == "pair" || flag == "name" || flag == "type":
		return " "
	}
	return "_files"
}

// quote quotes a word for all three shells.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
