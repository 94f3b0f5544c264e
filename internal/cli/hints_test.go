package cli

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/source"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// hintedErrors are the errors whose hint goes by what they are, and those with
// lines for several commands.
var hintedErrors = []error{
	source.ErrNone, elfnote.ErrBlob, vmcore.ErrNotCore, vmcore.ErrBusy, vmcore.ErrExists, vmcore.ErrSameFile, vmcore.ErrNoPlace,
	vmcore.ErrTruncated, vmcore.ErrChanged, vmcore.ErrOnePass, syscall.ENOSPC, syscall.EDQUOT, fs.ErrPermission, syscall.EROFS, context.Canceled,
	nowhere, notInDump, noVMCS{new(vmcs.Result)}, usagef("wrong"),
}

// nowhere and notInDump are of a pair that leads to no note: the latter of a
// dump whose memory can be searched.
var (
	nowhere   = &source.PairError{Failed: []source.PlaceError{{Place: source.DevMem, Err: fs.ErrNotExist}}}
	notInDump = &source.PairError{Failed: []source.PlaceError{{Place: source.InDump, Err: vmcore.ErrNoMemory}}}
)

// onlyOf names the commands that can fail with an error; all can with the
// others.
var onlyOf = map[error][]string{
	vmcore.ErrSameFile: {"inject", "remove"},
	vmcore.ErrNoPlace:  {"inject", "remove"},
	notInDump:          {"inject"},
}

// TestHintsOfCommands prints every hint in every command: each has the flags
// that its hint names.
func TestHintsOfCommands(t *testing.T) {
	for _, c := range commands() {
		for _, err := range hintedErrors {
			var noVMCS noVMCS
			switch only, restricted := onlyOf[err]; {
			case restricted && !slices.Contains(only, c.name),
				errors.As(err, &noVMCS) && !slices.Contains([]string{"guests", "extract", "inject"}, c.name):
				continue
			}
			var stderr bytes.Buffer
			e := &env{Printer: &message.Printer{Stderr: &stderr, Choose: c.choose}, cmd: c}
			e.fail(errors.Wrap(err, "file"))
			if !strings.Contains(stderr.String(), "hint: ") && err != error(nowhere) {
				t.Errorf("%s: %v: no hint", c.name, err)
			}
			for line := range strings.Lines(stderr.String()) {
				if hint, ok := strings.CutPrefix(line, "vmcsnote: hint: "); ok && !c.fits(hint) {
					t.Errorf("%s lacks a flag of the hint for %v: %s", c.name, err, hint)
				}
			}
		}
	}
}

// TestFits is on hints that name flags of this command, of another one, of
// another program.
func TestFits(t *testing.T) {
	for _, tt := range []struct {
		name, command, hint string
		want                bool
	}{
		{"its own", "inject", "give --blob, --pair or --record", true},
		{"of others", "record", "give --blob, --pair or --record", false},
		{"short", "verify", "write a copy with -o", false},
		{"short, its own", "inject", "write a copy with -o", true},
		{"another command's", "show", "vmcsnote inject --replace puts it there", true},
		{"another command's, and not its own", "show", "vmcsnote inject adds it, --replace puts it there", false},
		{"not that command's", "inject", "vmcsnote show --replace prints it", false},
		{"another program's", "show", "virsh dump --memory-only writes one", true},
		{"none", "show", "wait", true},
		{"before any command", "", "give --blob", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := find(tt.command)
			if got := c.fits(tt.hint); got != tt.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestEveryHint reads the source of this package and of those below it: each
// line of each hint must fit a command, and name no flag that no command has,
// unless another program is named before it.
func TestEveryHint(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("internal/*/*.go")
	if err != nil || len(more) == 0 {
		t.Fatal(more, err)
	}
	names = append(names, more...)
	fset := token.NewFileSet()
	programs := []string{"chmod", "virsh", "makedumpfile", "mkdumprd", "chattr", "lsattr", "mount", "zstd", "gzip", "xz", "ulimit"}
	found := 0
	check := func(x ast.Expr) {
		for line := range strings.SplitSeq(literal(x), "\n") {
			found++
			if !slices.ContainsFunc(commands(), func(c command) bool { return c.fits(line) }) {
				t.Errorf("no command has the flags of the hint %q", line)
			}
			for _, flag := range namedFlags(line) {
				if !slices.ContainsFunc(commands(), func(c command) bool { return c.has(flag) }) &&
					!slices.ContainsFunc(programs, func(p string) bool { return strings.Contains(line, p) }) {
					t.Errorf("no command has %s, of the hint %q", flag, line)
				}
			}
		}
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "With" && len(n.Args) == 2 {
					check(n.Args[1])
				}
			case *ast.FuncDecl:
				if strings.HasSuffix(n.Name.Name, "Hint") || n.Name.Name == "Of" {
					ast.Inspect(n, func(n ast.Node) bool {
						if r, ok := n.(*ast.ReturnStmt); ok && len(r.Results) == 1 {
							check(r.Results[0])
						}
						return true
					})
				}
			}
			return true
		})
	}
	if found < 30 {
		t.Errorf("found %d lines of hints", found)
	}
}

// literal puts the string literals of an expression together.
func literal(x ast.Expr) (s string) {
	ast.Inspect(x, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if err == nil && n.Kind == token.STRING {
				s += text
			}
		case *ast.Ident:
			if n.Obj != nil {
				if v, ok := n.Obj.Decl.(*ast.ValueSpec); ok && n.Obj.Kind == ast.Con {
					s += literal(v.Values[0])
				}
			}
		}
		return true
	})
	return s
}

// TestDidYouMean is on words that are nearly, or partly, a name.
func TestDidYouMean(t *testing.T) {
	for _, tt := range []struct{ name, word, want string }{
		{"a letter too few", "injct", "did you mean inject?"},
		{"a letter too many", "removed", "did you mean remove?"},
		{"two letters swapped", "sohw", "did you mean show?"},
		{"upper case", "GUESTS", "did you mean guests?"},
		{"a part", "complet", "did you mean completion?"},
		{"far from all", "frobnicate", ""},
		{"one letter", "x", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := hint.DidYouMean(tt.word, names()); got != tt.want {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestNamedFlags(t *testing.T) {
	for _, tt := range []struct {
		name, hint string
		want       []string
	}{
		{"none", "copy it first - or not", nil},
		{"long and short", "use --blob FILE (or -o OUT)", []string{"--blob", "-o"}},
		{"before a full stop, a comma, an equals sign", "--force, --layout=NAME. --json.", []string{"--force", "--layout", "--json"}},
		{"with a dash in it", "--pass-through", []string{"--pass-through"}},
		{"no flags", "-- --- --x -ab --Blob a-b a--b --9", nil},
	} {
		if got := namedFlags(tt.hint); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
