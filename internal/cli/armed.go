package cli

import (
	"github.com/pkg/errors"

	"vmcsnote/internal/armed"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
)

// armedFlags are those of verify --armed.
type armedFlags struct {
	image string // the capture initramfs, if it is not at a known place
	root  string
	json  bool
}

// An armedReport is a check of verify --armed. Its JSON names are fixed.
type armedReport struct {
	Check string      `json:"check"`
	State armed.State `json:"state"` // ok, no, unknown or none
	Text  string      `json:"text"`  // what was found
	Cure  string      `json:"cure,omitempty"`
}

// run checks whether this machine's next dump will get its note.
func (f *armedFlags) run(e *env) error {
	r, err := armed.Machine(f.root, f.image)
	if errors.Is(err, armed.ErrCapture) {
		return hint.With(err, "arm the kernel that may crash")
	}
	if err != nil {
		return err
	}
	if f.json {
		reports := []armedReport{}
		for _, c := range r.Checks {
			reports = append(reports, armedReport{c.Name, c.State, c.Text, message.CureText(c)})
		}
		err = e.json(reports)
	} else {
		err = e.Armed(r)
	}
	switch {
	case err != nil:
		return err
	case r.State == armed.OK:
		return nil
	case r.State == armed.None:
		return errSome{exitNoNote}
	}
	return errFindings
}
