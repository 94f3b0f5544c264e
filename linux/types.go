package linux

import (
	"encoding/binary"

	"github.com/pkg/errors"
)

// btf returns the kernel's own BTF, which is read once.
func (k *Kernel) btf() (*types, error) {
	return k.types.get(func() (*types, error) {
		start, err := k.Symbol("__start_BTF")
		if errors.Is(err, ErrNoSymbol) {
			return nil, ErrNoBTF
		}
		if err != nil {
			return nil, err
		}
		stop, err := k.Symbol("__stop_BTF")
		if err != nil {
			return nil, err
		}
		return k.readBTF(start, stop-start, nil)
	})
}

func (k *Kernel) readBTF(addr, size uint64, base *types) (*types, error) {
	if size > maxBTF {
		return nil, corrupt("BTF at %#x has %d bytes", addr, size)
	}
	b, err := k.readGrowing(addr, size)
	if err == nil {
		err = k.meter.spend(len(b) / 4)
	}
	if err != nil {
		return nil, errors.WithMessage(err, "BTF")
	}
	t, err := parseBTF(b, base)
	if err == nil {
		t.meter = k.meter
		err = k.meter.keep(4 * len(t.offsets))
	}
	return t, err
}

// btfModule is where a module's BTF lies.
type btfModule struct{ data, size uint64 }

type btfModuleFields struct {
	List   Field `btf:"list"`
	Module Field `btf:"module"`
	Data   Field `btf:"btf->data"`
	Size   Field `btf:"btf->data_size"`
}

func (f *btfModuleFields) binding() Binding { return Binding{"", "btf_module", f} }

// Struct returns a type of the module, or of the kernel if the module has no
// type of this name: what both use stands in the kernel's BTF alone. The error
// is a [*TypeError] if there is none; it wraps [ErrNoBTF] if the module has no
// BTF, as before Linux 5.11, and the kernel has no such type.
func (m *Module) Struct(name string) (*Struct, error) {
	t, err := m.types.get(m.readTypes)
	if err == nil {
		return t.structure(name)
	}
	if s, kerr := m.k.Struct(name); kerr == nil {
		return s, nil
	}
	return nil, errors.WithMessagef(err, "module %s", m.Name)
}

// Enum returns the value of an enumerator, of the kernel or of the module as
// [Module.Struct] does. The error is a [*MemberError] if the enum has none of
// that name.
func (m *Module) Enum(enum, name string) (uint64, error) {
	t, err := m.types.get(m.readTypes)
	if err == nil {
		return t.enumerator(enum, name)
	}
	if v, kerr := m.k.Enum(enum, name); kerr == nil {
		return v, nil
	}
	return 0, errors.WithMessagef(err, "module %s", m.Name)
}

// Enum returns the value of an enumerator of the kernel.
func (k *Kernel) Enum(enum, name string) (uint64, error) {
	t, err := k.btf()
	if err != nil {
		return 0, err
	}
	return t.enumerator(enum, name)
}

// enumerator returns the value of one of an enum's names.
func (t *types) enumerator(enum, name string) (uint64, error) {
	typ, err := t.find(enum, kindEnum, kindEnum64)
	if err != nil {
		return 0, err
	}
	size := 8
	if typ.kind == kindEnum64 {
		size = 12
	}
	for i := range typ.vlen {
		b := typ.data[size*i:]
		if !isString(t.text(binary.LittleEndian.Uint32(b)), name) {
			continue
		}
		v := uint64(int64(int32(binary.LittleEndian.Uint32(b[4:]))))
		if size == 12 {
			v = v&0xffffffff | uint64(binary.LittleEndian.Uint32(b[8:]))<<32
		}
		return v, nil
	}
	return 0, &MemberError{Type: "enum " + enum, Member: name, Path: name}
}

// A BTF is the types of a kernel or a module that is not in memory: the section
// .BTF of vmlinux or of a module's file.
type BTF struct{ types *types }

// ParseBTF parses BTF. base is the kernel's for a module's, nil for a kernel's.
func ParseBTF(b []byte, base *BTF) (*BTF, error) {
	var on *types
	if base != nil {
		on = base.types
	}
	t, err := parseBTF(b, on)
	return &BTF{t}, err
}

// Struct returns a type, one of the base if b has none of that name.
func (b *BTF) Struct(name string) (*Struct, error) { return b.types.structure(name) }

func (m *Module) readTypes() (*types, error) {
	base, err := m.k.btf()
	if err != nil {
		return nil, err
	}
	all, err := m.k.split.get(m.k.readBTFModules)
	b, ok := all[m.Addr]
	if !ok {
		if err == nil {
			err = ErrNoBTF
		}
		return nil, err
	}
	return m.k.readBTF(b.data, b.size, base)
}

// readBTFModules lists the modules that have BTF, by the address of their
// struct module.
func (k *Kernel) readBTFModules() (map[uint64]btfModule, error) {
	head, err := k.Symbol("btf_modules")
	if err != nil {
		return nil, ErrNoBTF
	}
	var f btfModuleFields
	if err := k.bind(f.binding()); err != nil {
		return nil, err
	}
	all := make(map[uint64]btfModule)
	for addr, err := range k.List(head, f.List) {
		if err != nil || len(all) == maxModules {
			return all, err
		}
		var module, data, size uint64
		if err := k.values(addr, want{&f.Module, &module}, want{&f.Data, &data}, want{&f.Size, &size}); err != nil {
			return all, errors.WithMessage(err, "btf_modules")
		}
		all[module] = btfModule{data, size}
	}
	return all, nil
}
