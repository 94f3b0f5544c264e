package armed

import (
	"bytes"
	"encoding/binary"
	"path/filepath"

	"github.com/pkg/errors"

	"vmcsnote/internal/cpulayouts"
	"vmcsnote/internal/source"
	"vmcsnote/record"
)

// byLayout checks a host whose kernel publishes no pair, as noPair tells: a
// file of layouts must fit its processor, and the record have the note of that
// file.
func (c *checker) byLayout(noPair error) {
	const what = "layout"
	p, err := cpulayouts.Machine(c.root)
	if err != nil {
		c.no("pair", noPair.Error(), LoadModule)
		c.record(nil)
		return
	}
	// Another microcode counts if the record was made so: somebody asked for
	// it.
	recorded, _ := record.ReadFile(filepath.Join(c.root, source.DefaultRecord))
	files, _ := cpulayouts.Read(c.root)
	choice := cpulayouts.Choose(files, p, recorded.Layout != "")
	switch f := choice.File; {
	case f == nil && len(choice.Refused) == 0:
		c.no("pair", noPair.Error(), InstallLayout, LoadModule)
	case f == nil:
		err := &source.NoLayoutError{Refused: choice.Refused}
		cures := []Cure{InstallLayout, LoadModule}
		if err.Microcode() {
			cures = []Cure{InstallLayout, RecordAny, LoadModule}
		}
		c.no(what, errors.WithMessage(err, noPair.Error()).Error(), cures...)
	case choice.Microcode != "" && recorded.Layout != f.Name:
		c.no(what, f.Name+" is of "+choice.Microcode, InstallLayout, RecordAny)
	case choice.Microcode != "":
		c.ok(what, f.Name+" fits this processor, though it is of "+choice.Microcode)
	case choice.Conflict:
		c.ok(what, f.Name+" fits this processor; "+choice.Others[0].Name+" fits, too, but has fields in other places")
	default:
		c.ok(what, f.Name+" fits this processor")
	}
	if r := c.record(nil); r != nil && choice.File != nil && !bytes.Equal(r.Note, choice.File.Note.Encode(binary.LittleEndian)) {
		c.no("note", "the one recorded is not that of "+choice.File.Name, Record)
	}
}
