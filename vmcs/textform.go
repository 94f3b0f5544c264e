package vmcs

import "github.com/pkg/errors"

// chooseForm tells whether the values of a text are cells or offsets. Most
// values can be only one of them: an offset is below 4096, and cells that agree
// with each other do not come by chance. A text where both are found, or
// where all values could be either, is refused, unless it states its form.
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

// cells returns the width of the cells the value is made of, false if it is not.
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
