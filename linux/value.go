package linux

import (
	"bytes"
	"encoding/binary"

	"github.com/pkg/errors"
)

// errNoField means that a field was not resolved: the kernel may lack it.
var errNoField = errors.New("field was not resolved")

// errNull means that a path leads through a null pointer.
var errNull = errors.New("null pointer")

// At returns the address of the field of the object at addr, after the pointers
// in its path.
func (k *Kernel) At(addr uint64, f Field) (uint64, error) {
	if !f.Valid() {
		return 0, errNoField
	}
	for _, hop := range f.hops {
		next, err := k.Pointer(addr + hop)
		if err != nil {
			return 0, errors.WithMessage(err, f.Path)
		}
		if next == 0 {
			return 0, errors.WithMessage(errNull, f.Path)
		}
		addr = next
	}
	return addr + f.offset, nil
}

// Value reads a field of the object at addr that is an integer, an enum, a
// pointer or a bitfield. A signed one is sign-extended to 64 bits.
func (k *Kernel) Value(addr uint64, f Field) (uint64, error) {
	at, err := k.At(addr, f)
	if err != nil {
		return 0, err
	}
	if f.Size > 8 || f.Size == 0 || f.Count != 0 {
		return 0, errors.Errorf("%s is no number", f.Path)
	}
	var b [16]byte
	size, bits := f.Size, 8*f.Size
	if f.bits != 0 {
		size, bits = (f.bit+f.bits+7)/8, f.bits
	}
	if _, err := k.Read(b[:size], at); err != nil {
		return 0, errors.WithMessage(err, f.Path)
	}
	v := binary.LittleEndian.Uint64(b[:]) >> f.bit
	if f.bit != 0 {
		v |= binary.LittleEndian.Uint64(b[8:]) << (64 - f.bit)
	}
	v <<= 64 - bits
	if f.signed {
		return uint64(int64(v) >> (64 - bits)), nil
	}
	return v >> (64 - bits), nil
}

// A want is a field to be read, and where to put it.
type want struct {
	field *Field
	to    *uint64
}

// values reads fields of the object at addr, as Value does.
func (k *Kernel) values(addr uint64, all ...want) (err error) {
	for _, w := range all {
		if *w.to, err = k.Value(addr, *w.field); err != nil {
			return err
		}
	}
	return nil
}

// Elements reads an array of integers or pointers.
func (k *Kernel) Elements(addr uint64, f Field) ([]uint64, error) {
	if f.Count == 0 || f.Stride == 0 || f.Stride > 8 || f.Count > maxArray {
		return nil, errors.Errorf("%s is no array of numbers", f.Path)
	}
	b, err := k.bytes(addr, f)
	if err != nil {
		return nil, err
	}
	list := make([]uint64, f.Count)
	for i := range list {
		var word [8]byte
		copy(word[:], b[uint64(i)*f.Stride:][:f.Stride])
		list[i] = binary.LittleEndian.Uint64(word[:])
	}
	return list, nil
}

// maxArray bounds what is read of one field.
const maxArray = 1 << 20

// bytes reads all of a field.
func (k *Kernel) bytes(addr uint64, f Field) ([]byte, error) {
	at, err := k.At(addr, f)
	if err != nil {
		return nil, err
	}
	if f.Size > maxArray {
		return nil, errors.Errorf("%s has %d bytes", f.Path, f.Size)
	}
	b := make([]byte, f.Size)
	if _, err := k.Read(b, at); err != nil {
		return nil, errors.WithMessage(err, f.Path)
	}
	return b, nil
}

// fieldText reads a string that is an array of characters, or that a pointer
// leads to. It is as the kernel has it, so it can hold anything but NUL.
func (k *Kernel) fieldText(addr uint64, f Field) (string, error) {
	if f.Count != 0 {
		b, err := k.bytes(addr, f)
		b, _, _ = bytes.Cut(b, []byte{0})
		return string(b), err
	}
	at, err := k.Value(addr, f)
	if err != nil {
		return "", err
	}
	s, err := k.CString(at, maxText)
	return s, errors.WithMessage(err, f.Path)
}

// maxText is more than any name in the kernel has (PATH_MAX).
const maxText = 4096
