// Package cli is the command line of vmcsnote: one file for each command, which
// parses its flags and asks the libraries. Messages for people are in package
// message, hints in package hint.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/source"
	"vmcsnote/internal/visible"
)

// Exit statuses. Scripts in a capture environment depend on them.
const (
	exitDone   = 0 // done, or there was nothing to do
	exitFailed = 1 // failed; nothing changed, unless the message says otherwise
	exitUsage  = 2 // wrong usage
	exitNoNote = 3 // no VMCSINFO available
)

// errFindings means that verify found faults and has printed them.
var errFindings = errors.New("faults found")

// errUsage marks an error as one of usage.
type errUsage struct{ error }

//go:noinline
func usagef(format string, args ...any) error {
	return errUsage{errors.Errorf(format, args...)}
}

// A command is one word after vmcsnote. setup adds its flags to a set, so that
// help and completion show those that are really there.
type command struct {
	name  string
	args  string // what follows the flags, for the usage line
	short string // one line, for the list of commands
	long  string // the rest of its help
	setup func(*pflag.FlagSet) runner
}

// A runner carries out a command whose flags have been parsed.
type runner func(ctx context.Context, e *env, args []string) error

// An env is the process as a command sees it.
type env struct {
	*message.Printer
	stdin io.Reader

	cmd      command      // what was asked for
	asJSON   bool         // with --json: a failure is a document, too
	file     string       // the one file given, else ""
	answered *atomic.Bool // a document has been printed

	packed bool // compressed files are not unpacked

	held *atomic.Bool // a file is being changed: a signal must wait
}

// commands lists the commands in the order in which people meet them.
func commands() []command {
	return []command{
		injectCommand(), recordCommand(), showCommand(), verifyCommand(), removeCommand(), guestsCommand(), extractCommand(), reportCommand(),
		layoutsCommand(), completionCommand(), versionCommand(), helpCommand(),
	}
}

// names lists the commands' names.
func names() (all []string) {
	for _, c := range commands() {
		all = append(all, c.name)
	}
	return all
}

func find(name string) (command, bool) {
	for _, c := range commands() {
		if c.name == name {
			return c, true
		}
	}
	return command{}, false
}

// Main runs the command line args, without the program's name, and returns the
// exit status.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	e := &env{Printer: &message.Printer{Stdout: os.Stdout, Stderr: os.Stderr}, stdin: os.Stdin, answered: new(atomic.Bool), held: new(atomic.Bool)}
	if message.IsTerminal(os.Stdout) {
		s := visible.NewScreen(os.Stdout)
		defer s.End()
		e.Stdout = s
	}
	run, args, err := e.parse(args)
	if err == nil {
		done := make(chan error, 1)
		go func() { done <- run(ctx, e, args) }()
		err = wait(ctx, e, done)
	}
	if err != nil {
		e.fail(err)
		if e.asJSON {
			e.failJSON(err)
		}
	}
	return status(err)
}

// wait waits for a command to end. After a signal it gives up after a second,
// because the command may be blocked on a pipe that nobody reads or writes. It
// goes on waiting while the command changes a file: the command then undoes or
// finishes what it has begun.
func wait(ctx context.Context, e *env, done chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Second):
			if !e.held.Load() {
				return context.Cause(ctx)
			}
		}
	}
}

// errNoCommand means that there is no word after vmcsnote.
var errNoCommand = usagef("no command given")

// parse finds the command, parses its flags, and returns what to run with which
// arguments.
func (e *env) parse(args []string) (runner, []string, error) {
	if len(args) == 0 {
		return nil, nil, errNoCommand
	}
	word := args[0]
	switch word {
	case "-h", "--help":
		word = "help"
	case "-V", "--version":
		word = "version"
	}
	if word == completeWord {
		return completeLine, args[1:], nil
	}
	var err error
	if e.cmd, err = commandNamed(word); err != nil {
		return nil, nil, err
	}
	e.Choose = e.cmd.choose
	fs, run := e.cmd.flags()
	err = fs.Parse(args[1:])
	e.asJSON = wantsJSON(fs, args[1:], err != nil)
	if what, _, _ := strings.Cut(e.cmd.args, "."); fs.NArg() == 1 && (what == "VMCORE" || what == "FILE") {
		e.file = fs.Arg(0)
	}
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return showHelp, []string{word}, nil
	case err != nil:
		return nil, nil, flagError(fs, err)
	}
	// -o "$UNSET" must not mean to change the core in place.
	fs.Visit(func(f *pflag.Flag) {
		if all, ok := f.Value.(pflag.SliceValue); f.Value.String() == "" || ok && slices.Contains(all.GetSlice(), "") {
			err = usagef("--%s: empty", f.Name)
		} else if c, ok := f.Value.(chooser); ok && c.valid() != nil {
			err = usagef("--%s %q: %v", f.Name, f.Value, c.valid())
		}
	})
	return run, fs.Args(), err
}

// wantsJSON reports whether standard output is for one JSON document. After
// wrong flags only some have been parsed: the words decide.
func wantsJSON(fs *pflag.FlagSet, args []string, wrong bool) bool {
	if wrong {
		return fs.Lookup("json") != nil && slices.Contains(args, "--json") && !slices.Contains(args, "-")
	}
	given := func(flag, value string) bool {
		f := fs.Lookup(flag)
		return f != nil && f.Changed && (value == "" || f.Value.String() == value)
	}
	return given("json", "true") && !given("output", "-") && !given("svg", "-") && !given("note", "")
}

// commandNamed returns the command that word names.
func commandNamed(word string) (command, error) {
	c, ok := find(word)
	if !ok {
		return c, hint.With(usagef("no command %q", word), hint.DidYouMean(word, names()))
	}
	return c, nil
}

// flagError is the error for flags that do not parse.
func flagError(fs *pflag.FlagSet, err error) error {
	cure := ""
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		cure = hint.DidYouMean("--"+unknown.GetSpecifiedName(), flagNames(fs))
	}
	return hint.With(errUsage{errors.Wrap(err, fs.Name())}, cure)
}

// flags returns the command's flags, and what to run when they are parsed.
func (c command) flags() (*pflag.FlagSet, runner) {
	fs := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.SortFlags = false
	return fs, c.setup(fs)
}

func status(err error) int {
	var usage errUsage
	var some errSome
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &some):
		return some.status
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, source.ErrNone):
		return exitNoNote
	}
	return exitFailed
}

// oneArg returns the one argument that a command takes.
func oneArg(args []string, what string) (string, error) {
	switch len(args) {
	case 0:
		return "", usagef("%s is missing", what)
	case 1:
		return args[0], nil
	}
	return "", usagef("one %s at a time, not %d", what, len(args))
}

// fail tells a person what went wrong, and the cure.
func (e *env) fail(err error) {
	if errors.Is(err, errFindings) || errors.As(err, new(errSome)) {
		return // they have been printed
	}
	if errors.Is(err, errNoCommand) {
		io.WriteString(e.Stderr, overview())
		return
	}
	e.Failure(err)
	if errors.As(err, new(errUsage)) {
		e.Hint(e.helpHint())
	}
}

// helpHint says where to read on after wrong usage.
func (e *env) helpHint() string {
	if e.cmd.name == "" {
		return "vmcsnote help lists the commands, vmcsnote help COMMAND its flags"
	}
	return "vmcsnote help " + e.cmd.name + " tells how to use it"
}
