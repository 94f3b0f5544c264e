package vmcs

import (
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// The text is ASCII, in lines:
//
//	REVISION_ID=d                    hexadecimal, as every number
//	FORM=cells                       what the values are: cells or offsets
//	ACCESS_RIGHTS=rotated            plain, rotated or packed
//	KEY=VALUE                        anything else, CPU_MODEL for instance
//	FIELD(GUEST_ES_SELECTOR)=0500
//
// The patches of April 2012 wrote REVISION_ID and FIELD lines, with cells in 4
// digits for a 16-bit field, 8 for a 32-bit one, 16 for a wider one. Everything
// since has written offsets.

// textField is a FIELD line.
type textField struct {
	place    string // "line 3"
	field    Field
	known    bool
	text     string // the value as it stands
	digits   int    // of the value; 0 if it is prefixed with 0x
	value    uint64
	unclosed bool // the text ends in this line: it may be cut
}

// A textParser holds what has been read of a text.
type textParser struct {
	*builder
	fields     []textField
	stated     Form
	identified bool // REVISION_ID was read
}

// parseText reads a VMCSINFO text. Zero bytes may follow it.
func parseText(desc []byte) (*Layout, error) {
	p := textParser{builder: newBuilder(0)}
	number := 0
	for line := range strings.Lines(strings.TrimRight(string(desc), "\x00")) {
		if number++; number > maxFields {
			return nil, errors.Wrapf(ErrLayout, "more than %d lines, expected no more than a page has fields", maxFields)
		}
		if err := p.line("line "+strconv.Itoa(number), line); err != nil {
			return nil, err
		}
	}
	if !p.identified {
		return nil, errors.Wrap(ErrLayout, "no line REVISION_ID=, which every VMCSINFO text has")
	}
	if len(p.fields) == 0 {
		return p.finish(0)
	}
	form, err := chooseForm(p.fields, p.stated)
	if err != nil {
		return nil, err
	}
	p.Form = form
	for _, f := range p.fields {
		p.placeText(f)
	}
	return p.finish(len(p.fields))
}

// line reads a line, with the newline if it has one.
func (p *textParser) line(place, line string) error {
	text := strings.TrimSpace(line)
	key, value, ok := strings.Cut(text, "=")
	name, isField := fieldName(key)
	switch {
	case text == "":
	case !ok || !printable(text) || !isField && (key == "" || strings.ContainsAny(key, "() ")):
		p.warn(place, "%.40q, expected FIELD(name)=value", text)
	case isField:
		f, fault := newTextField(name, value)
		if fault != nil {
			p.warn(place, "%.60q: %v", text, fault)
			return nil
		}
		f.place, f.unclosed = place, !strings.HasSuffix(line, "\n")
		p.fields = append(p.fields, f)
	case key == "REVISION_ID":
		return p.revision(place, value)
	case key == "FORM" && value == FormCells.String():
		p.stated = FormCells
	case key == "FORM" && value == FormOffsets.String():
		p.stated = FormOffsets
	case key == "ACCESS_RIGHTS" && rightsByName[value] != RightsUnknown:
		p.AccessRights = rightsByName[value]
	default:
		p.Facts = append(p.Facts, Fact{key, value})
	}
	return nil
}

// revision takes the revision identifier, about which all lines must agree.
func (p *textParser) revision(place, value string) error {
	id, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 31)
	if err != nil {
		return errors.Wrapf(ErrLayout, "%s: REVISION_ID=%.20s, expected hexadecimal digits of 31 bits", place, value)
	}
	if p.identified && uint32(id) != p.RevisionID {
		return errors.Wrapf(ErrLayout, "%s: REVISION_ID=%x, and before %x", place, id, p.RevisionID)
	}
	p.identified, p.RevisionID = true, uint32(id)
	return nil
}

// placeText adds f, whose value is of b's form.
func (b *builder) placeText(f textField) {
	switch width := f.width(); {
	case b.Form == FormOffsets:
		if f.unclosed {
			b.warn(f.place, "%s: %.20q ends the note without a newline: it may be cut", f.field.Name, f.text)
		}
		b.place(f.place, f.field, f.known, int(min(f.value, PageSize)), width)
	case !f.cellShaped() && f.unclosed:
		b.warn(f.place, "%s: %.20q is cut off by the end of the note", f.field.Name, f.text)
	case !f.cellShaped():
		b.warn(f.place, "%s: %.20q, expected 4, 8 or 16 digits, two for each byte", f.field.Name, f.text)
	default:
		b.placeCells(f.place, f.field, f.known, f.value)
	}
}

var rightsByName = map[string]AccessRights{"plain": RightsPlain, "rotated": RightsRotated, "packed": RightsPacked}

// fieldName returns NAME of FIELD(NAME).
func fieldName(key string) (string, bool) {
	name, ok := strings.CutPrefix(key, "FIELD(")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, ")")
}

// newTextField takes a FIELD line's name and value.
func newTextField(name, value string) (textField, error) {
	if name == "" || len(name) > 64 || strings.ContainsAny(name, " \t()") {
		return textField{}, errors.New("expected a field's name of up to 64 letters")
	}
	f := textField{text: value}
	if f.field, f.known = FieldByName(name); !f.known {
		f.field.Name = name
	}
	digits, prefixed := strings.CutPrefix(value, "0x")
	if !prefixed {
		f.digits = len(digits)
	}
	var err error
	f.value, err = strconv.ParseUint(digits, 16, 64)
	if err != nil || len(digits) > 16 {
		return textField{}, errors.New("expected 1 to 16 hexadecimal digits")
	}
	return f, nil
}

// printable reports whether s is of ASCII characters that are.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < ' ' || r > '~') && r != '\t' })
}

// width is the field's width in bytes, 0 if it is not known.
func (f textField) width() int {
	if !f.known {
		return 0
	}
	return f.field.Width()
}

// chooseForm tells whether the values of a text are cells or offsets. Most
// values can be only one of them: an offset is below 4096, and cells that agree
// with each other do not occur by chance. chooseForm refuses a text that has
// both, or whose values could all be either, unless the text states its form.
func chooseForm(fields []textField, stated Form) (Form, error) {
	shaped := true  // all values have the digits that cells have
	strong := false // there are cells that agree with each other
	var both, cells, offsets *textField
	for i := range fields {
		f := &fields[i]
		if !f.cellShaped() && !(f.unclosed && i > 0) {
			shaped = false
		}
		width, asCells := f.cells()
		if asCells && width >= 4 {
			strong = true
		}
		switch asOffset := f.value >= headerSize && f.value <= uint64(PageSize-max(f.width(), 2)); {
		case f.unclosed && i > 0:
		case asCells && asOffset:
			both = f
		case asCells:
			cells = f
		case asOffset:
			offsets = f
		}
	}
	if !strong && !shaped {
		cells = nil // a value of one cell proves nothing among values that are none
	}
	switch {
	case stated == FormCells && (cells != nil || both != nil), stated == FormOffsets && (offsets != nil || both != nil) && !strong:
		return stated, nil
	case stated != 0:
		return 0, errors.Wrapf(ErrLayout, "the text says FORM=%s, but its values are not (%s)", stated, fields[0])
	case strong && shaped:
		return FormCells, nil
	case cells != nil && offsets != nil:
		return 0, errors.Wrapf(ErrAmbiguous, "%s can only be cells, %s only an offset", cells, offsets)
	case cells != nil:
		return FormCells, nil
	case offsets != nil:
		return FormOffsets, nil
	case both != nil:
		return 0, errors.Wrapf(ErrAmbiguous, "%s can be a cell or an offset, and no field tells which: expected a 32-bit or wider field", both)
	}
	return 0, errors.Wrapf(ErrLayout, "values are neither cells nor offsets in a page (%s)", fields[0])
}

// cellShaped reports whether the value has the digits of cells: 4, 8 or 16, and
// as many as the field needs. (A 32-bit kernel prints 8 for wider fields.)
func (f textField) cellShaped() bool {
	return (f.digits == 4 || f.digits == 8 || f.digits == 16) && f.digits/2 >= min(f.width(), 4)
}

// cells returns the width of the cells the value is made of, false if it is
// not.
func (f textField) cells() (width int, ok bool) {
	_, width, fault := decodeCells(f.value)
	if fault != "" || !f.cellShaped() {
		return 0, false
	}
	if !f.known {
		return width, width == f.digits/2
	}
	return width, width >= min(f.width(), 4)
}

func (f textField) String() string {
	return f.place + ": FIELD(" + f.field.Name + ")=" + f.text
}
