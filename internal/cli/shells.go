package cli

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
)

// shells are those that have a script.
var (
	shells  = choices{{"bash", ""}, {"zsh", ""}, {"fish", ""}}
	scripts = map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
)

func completionCommand() command {
	return command{
		name:  "completion",
		args:  "SHELL",
		short: "print a completion script for " + shells.list(),
		long: `Prints a completion script for ` + shells.list() + `: commands, flags, and their
values, such as layouts, fields, and the names of the notes in a dump. The
script asks vmcsnote itself what may come next.`,
		setup: func(*pflag.FlagSet) runner {
			return func(_ context.Context, e *env, args []string) error {
				shell, err := oneArg(args, "SHELL")
				if err != nil {
					return err
				}
				if err := shells.check(shell); err != nil {
					return usagef("no completion for %q: %v", shell, err)
				}
				_, err = fmt.Fprint(e.Stdout, scripts[shell])
				return err
			}
		},
	}
}

// The scripts run vmcsnote with completeWord, the shell's name and the words of
// the command line: see candidates. Each shell completes names of files itself,
// because it knows how to quote them.

// bashScript passes the line as it is: bash has split it at = and : already.
const bashScript = `# bash completion for vmcsnote
_vmcsnote() {
	local LC_ALL=C lines
	COMPREPLY=()
	mapfile -t lines < <(command vmcsnote ` + completeWord + ` bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
	case ${lines[0]} in
	files) ;;
	directories) compopt +o default -o dirnames ;;
	*) compopt +o default ;;
	esac
	local line word
	for line in "${lines[@]:1}"; do
		word=${line%%$'\t'*}
		[[ $word != *[^A-Za-z0-9_.,=/-]* ]] || printf -v word %q "$word"
		COMPREPLY+=("$word")
	done
}
complete -o default -F _vmcsnote vmcsnote
`

const zshScript = `#compdef vmcsnote
_vmcsnote() {
	local -a lines described
	local line
	lines=("${(@f)$(command vmcsnote ` + completeWord + ` zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
	for line in "${(@)lines[2,-1]}"; do
		described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	(($#described)) && _describe -V value described && [[ $lines[1] == words ]] && return
	case $lines[1] in
	files) compset -P '--[a-z-]#='; _files ;;
	directories) compset -P '--[a-z-]#='; _files -/ ;;
	esac
}
if [[ $funcstack[1] == _vmcsnote ]]; then _vmcsnote "$@"; else compdef _vmcsnote vmcsnote; fi
`

const fishScript = `# fish completion for vmcsnote
function __vmcsnote_complete
	set -l typed (commandline -ct)
	set -l cur (string unescape -- $typed; or string trim --left --chars '"\'' -- $typed)
	set -l before (commandline -opc)
	set -l lines (command vmcsnote ` + completeWord + ` fish $before[2..-1] "$cur" 2>/dev/null)
	set -l flag (string match -r -- '^--[a-z-]+=' $cur)
	set -l path (string replace -r -- '^--[a-z-]+=' '' $cur)
	printf '%s\n' $lines[2..-1]
	switch $lines[1]
		case files
			printf "$flag%s\n" (__fish_complete_path $path)
		case directories
			printf "$flag%s\n" (__fish_complete_directories $path)
	end
end
complete -c vmcsnote -f -a '(__vmcsnote_complete)'
`
