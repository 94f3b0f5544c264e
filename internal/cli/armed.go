package cli

import (
	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/sysfs"
)

// A check is one thing that must hold for the note to be in the next dump. Its
// JSON names are fixed.
type check struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, no, unknown or none
	Text  string `json:"text"`  // what was found
	Cure  string `json:"cure,omitempty"`
}

const (
	isOK      = "ok"
	isNot     = "no"
	isUnknown = "unknown"
	isNone    = "none" // nothing can be recorded on this machine
)

// armedFlags are those of verify --armed.
type armedFlags struct {
	image string // the capture initramfs, where it is not at a known place
	root  string
	json  bool
}

// An armoury gathers what is found of this machine.
type armoury struct {
	*armedFlags
	sys    sysfs.FS
	finder *finder
	checks []*check
	found  string // the worst of them
}

// armed checks whether this machine's next dump will get its note.
func (f *armedFlags) armed(e *env) error {
	a := &armoury{armedFlags: f, sys: sysfs.New(f.root), found: isOK}
	a.finder = &finder{sourceFlags: &sourceFlags{name: elfnote.VMCSInfo, memory: "auto", root: f.root}, e: e}
	if a.finder.capture() {
		return withHint{errors.New("this is a capture kernel"), "the kernel that may crash is the one to be armed"}
	}
	if !a.inapplicable() {
		a.kernel()
		a.capture()
	}
	err := e.armed(a)
	switch {
	case err != nil:
		return err
	case a.found == isOK:
		return nil
	case a.found == isNone:
		return errSome{exitNoNote}
	}
	return errFindings
}

// ok, no and unknown add a check with what was found, and the cure.
func (a *armoury) ok(name, text string) { a.aside(isOK, name, text, "") }

func (a *armoury) no(name, text, cure string) {
	a.found = isNot
	a.aside(isNot, name, text, cure)
}

func (a *armoury) unknown(name, text, cure string) {
	if a.found == isOK {
		a.found = isUnknown
	}
	a.aside(isUnknown, name, text, cure)
}

// aside adds a check that does not decide.
func (a *armoury) aside(state, name, text, cure string) {
	a.checks = append(a.checks, &check{name, state, text, cure})
}
