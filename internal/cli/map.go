package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/source"
	"vmcsnote/internal/vmcsmap"
	"vmcsnote/vmcs"
)

// mapFlags ask for a map of the VMCS page.
type mapFlags struct {
	text bool
	svg  string
}

func (f *mapFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.text, "map", false, "draw where in the page the fields lie, and print nothing else")
	fs.StringVar(&f.svg, "svg", "", "write the map as a picture to `FILE`, a new one, or to standard output (-)")
}

func (f *mapFlags) given() bool { return f.text || f.svg != "" }

// check refuses a map where a document is asked for: only one would come.
func (f *mapFlags) check(asJSON bool) error {
	if f.given() && asJSON {
		return usagef("--map and --svg cannot go with --json")
	}
	return nil
}

// draw draws the maps asked for.
func (f *mapFlags) draw(e *env, l *vmcs.Layout, title string) error {
	if f.text {
		if _, err := io.WriteString(e.Stdout, vmcsmap.Text(l)); err != nil {
			return err
		}
	}
	if f.svg == "" {
		return nil
	}
	return e.writeNew(f.svg, vmcsmap.SVG(l, fmt.Sprintf("%s: VMCS revision id %#x, %s", title, l.RevisionID, message.Plural(len(l.Entries), "field"))))
}

// layoutOf returns the layout in the VMCSINFO note of a core, a blob or a
// record.
func (e *env) layoutOf(ctx context.Context, path string) (*vmcs.Layout, error) {
	r, err := e.look(ctx, path)
	switch {
	case err != nil:
		return nil, err
	case r.layout != nil:
		return r.layout, nil
	case r.VMCSInfo != nil:
		return nil, errors.Errorf("no VMCS layout can be read from the VMCSINFO note: %s", r.VMCSInfo.Warnings[0])
	}
	return nil, hint.With(errors.Wrap(source.ErrNone, "it has no VMCSINFO note"), "vmcsnote inject adds one; vmcsnote layouts NAME --map draws a layout that is built in")
}

// writeNew writes a picture to a new file, or to standard output. It replaces
// no file, because path may be the dump's by mistake.
func (e *env) writeNew(path, text string) error {
	if path == "-" {
		_, err := e.Stdout.Write([]byte(text))
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return hint.With(err, "name a file that does not exist yet")
	} else if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}
