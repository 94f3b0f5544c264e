// Package armed checks whether a machine's next crash dump will carry the note:
// whether kdump is loaded, the note published and recorded, and the program,
// the record and the hook where the capture kernel finds them.
package armed

import (
	"github.com/pkg/errors"

	"vmcsnote/internal/source"
	"vmcsnote/sysfs"
)

// ErrCapture means that the machine runs a capture kernel, which is never
// armed.
var ErrCapture = errors.New("this is a capture kernel")

// A State is the outcome of a check.
type State string

// The states. None means that the machine has nothing to record.
const (
	OK      State = "ok"
	Failed  State = "no"
	Unknown State = "unknown"
	None    State = "none"
)

// A Cure is a step that may make a check succeed.
type Cure int

// The steps.
const (
	BecomeRoot     Cure = iota + 1
	Record              // vmcsnote record
	RecordAny           // vmcsnote record --any-microcode
	InstallLayout       // vmcsnote layouts --install
	LoadModule          // that publishes the note
	BootWithKdump       // a kernel that has it
	LoadKdump           // the capture kernel
	StartKdump          // or name the initramfs
	InstallHook         // vmcsnote's package
	PutFirst            // the collector, in kdump.conf
	InstallProgram      // that unpacks: Check.Err tells which
	Rebuild             // the initramfs, whoever made it
	RebuildFedora
	RebuildSUSE
)

// A Check is one thing that must hold for the note to be in the next dump.
type Check struct {
	Name  string
	State State
	Text  string // what was found
	Cures []Cure // in their order
	Err   error  // what kept the check from an answer, if something did
}

// A Report is the outcome of all checks.
type Report struct {
	State  State // the worst that decides
	Checks []Check
}

// A checker gathers what it finds of this machine.
type checker struct {
	Report
	root   string
	image  string // the capture initramfs, if it was named
	sys    sysfs.FS
	finder *source.Finder
}

// Machine checks the machine whose files are below root. image is the capture
// initramfs; if it is "", it is looked for.
func Machine(root, image string) (*Report, error) {
	c := &checker{root: root, image: image, sys: sysfs.New(root), Report: Report{State: OK}}
	c.finder = &source.Finder{Request: source.OfMachine(root)}
	if c.finder.Capture() {
		return nil, ErrCapture
	}
	if !c.inapplicable() {
		c.kernel()
		c.capture()
	}
	return &c.Report, nil
}

func (c *checker) ok(name, text string) { c.aside(Check{Name: name, State: OK, Text: text}) }

func (c *checker) no(name, text string, cures ...Cure) {
	c.State = Failed
	c.aside(Check{Name: name, State: Failed, Text: text, Cures: cures})
}

func (c *checker) unknown(k Check) {
	if c.State == OK {
		c.State = Unknown
	}
	k.State = Unknown
	c.aside(k)
}

// forbidden adds a check that only root can make.
func (c *checker) forbidden(name string, err error) {
	c.unknown(Check{Name: name, Text: err.Error(), Cures: []Cure{BecomeRoot}})
}

// aside adds a check that does not decide.
func (c *checker) aside(k Check) { c.Checks = append(c.Checks, k) }
