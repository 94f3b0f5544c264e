package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/hint"
)

// extractAll writes a core of every guest, and of those that run in them, into the
// directory dir. A guest that fails does not stop the others.
func (f *guestsFlags) extractAll(ctx context.Context, e *env, paths []string, dir string, force bool) error {
	c, err := e.openDump(ctx, paths, f.form())
	if err != nil {
		return err
	}
	defer c.Close()
	h, err := f.find(ctx, e, c.Core)
	if err != nil {
		return err
	}
	if len(h.Machines) == 0 {
		return errNone(h)
	}
	if err := findRegisters(ctx, e, h); err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	for _, text := range h.Warnings() {
		e.Say("%s", text)
	}
	names := make(fileNames)
	failed := false
	for m := range h.All() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		out := filepath.Join(dir, names.of(m))
		err := notOver(out, paths)
		if err == nil {
			err = f.write(ctx, e, h, m, nil, out, force)
		}
		if err != nil {
			failed = true
			e.Failure(errors.WithMessage(named(dumpName(paths), err), guestlist.MachineText(m)))
		}
	}
	if failed {
		return errSome{exitFailed}
	}
	return nil
}

// makeDir makes a directory, unless it exists.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o777)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err != nil || info.IsDir() {
		return err
	}
	return hint.With(&os.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}, "--all needs a directory, or a new name for one")
}

// fileNames are the names given so far, in lower case: some file systems do not
// tell the cases apart.
type fileNames map[string]bool

// of returns a new name for a machine's core. Names of machines are their owners'
// choice: what a path or a shell could take for something else is replaced.
func (names fileNames) of(m *guest.Machine) string {
	const most = 100 // file systems take 255 bytes
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.+@[]", r) {
			return r
		}
		return '_'
	}, m.Name)
	clean = strings.TrimLeft(clean[:min(len(clean), most)], ".-")
	if clean == "" {
		clean = "guest-" + m.ID()
	}
	name := clean + ".core"
	for i := 0; names[strings.ToLower(name)]; i++ {
		if name = clean + "-guest-" + m.ID() + ".core"; i > 0 {
			name = fmt.Sprintf("%s-guest-%s-%d.core", clean, m.ID(), i)
		}
	}
	names[strings.ToLower(name)] = true
	return name
}
