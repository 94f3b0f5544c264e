package source

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/cpulayouts"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A Chosen is what the directories of layouts have for a processor.
type Chosen struct{ cpulayouts.Choice }

// FromLayouts returns the note of the file in the directories of layouts that
// fits a processor; of another microcode only if that is allowed. The error
// wraps [ErrNone] if no file fits.
func (f *Finder) FromLayouts(p vmcs.Processor, anyMicrocode bool) (Source, error) {
	files, bad := cpulayouts.Read(f.Root)
	for _, err := range bad {
		f.tell(NotUsed{Err: err})
	}
	c := cpulayouts.Choose(files, p, anyMicrocode)
	if c.File == nil {
		if len(c.Refused) == 0 {
			return Source{}, errors.Wrapf(ErrNone, "no layouts in %s and %s", filepath.Join(f.Root, cpulayouts.OwnDir), filepath.Join(f.Root, cpulayouts.SharedDir))
		}
		return Source{}, &NoLayoutError{c.Refused}
	}
	f.tell(Chosen{c})
	return Source{Kind: Layouts, File: filepath.Join(f.Root, c.File.Name), Layout: c.File.Name, Note: c.File.Note}, nil
}

// layoutAtDesk takes the file of layouts that is of the dump's processor. If
// the dump does not tell which that is, it is the file that explains the dump's
// VMCSs, if one does so better than all layouts that are built in.
func (f *Finder) layoutAtDesk(ctx context.Context) (Source, error) {
	if f.Name != elfnote.VMCSInfo || !f.Whole || f.Capture() {
		return Source{}, ErrNone
	}
	files, _ := cpulayouts.Read(f.Root)
	if len(files) == 0 {
		return Source{}, ErrNone
	}
	if p, err := guest.ProcessorOf(f.Core); err == nil {
		return f.FromLayouts(p, false)
	}
	s := vmcs.Search{VMCOREINFO: guest.VMCoreInfo(f.Core), Partial: vmcore.ShortfallOf(f.Core).Partial()}
	for _, file := range files {
		s.Files = append(s.Files, file.Layout)
	}
	found, err := vmcs.Find(ctx, f.Core, s)
	if err != nil {
		return Source{}, err
	}
	i := -1
	if found.Layout != nil && len(found.Ambiguous()) == 0 {
		i = slices.Index(s.Files, found.Trials[0].From)
	}
	if i < 0 {
		return Source{}, ErrNone
	}
	for _, d := range found.Disputes() {
		f.tell(Disputed{d, nil})
	}
	return Source{Kind: Layouts, File: filepath.Join(f.Root, files[i].Name), Layout: files[i].Name, Note: files[i].Note}, nil
}

// A NoLayoutError means that there are files of layouts, but none fits the
// processor.
type NoLayoutError struct{ Refused []cpulayouts.Refusal }

// Error says why the file that is nearest does not fit.
func (e *NoLayoutError) Error() string {
	best := e.Refused[0]
	for _, r := range e.Refused {
		if r.Microcode && !best.Microcode {
			best = r
		}
	}
	text := best.File.Name + ": " + best.Why
	if n := len(e.Refused) - 1; n > 0 {
		text += fmt.Sprintf(", and %d more files do not fit", n)
	}
	return text + ": " + ErrNone.Error()
}

// Unwrap returns ErrNone.
func (e *NoLayoutError) Unwrap() error { return ErrNone }

// Microcode reports whether a file would fit but for its microcode.
func (e *NoLayoutError) Microcode() bool {
	return slices.ContainsFunc(e.Refused, func(r cpulayouts.Refusal) bool { return r.Microcode })
}
