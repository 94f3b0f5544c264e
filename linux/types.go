package linux

import "github.com/pkg/errors"

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
	if err != nil {
		return nil, errors.WithMessage(err, "BTF")
	}
	return parseBTF(b, base)
}

// btfModule is where a module's BTF lies.
type btfModule struct{ data, size uint64 }

type btfModuleFields struct {
	List   Field `btf:"list"`
	Module Field `btf:"module"`
	Data   Field `btf:"btf->data"`
	Size   Field `btf:"btf->data_size"`
}

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
	s, err := k.Struct("btf_module")
	if err != nil {
		return nil, err
	}
	var f btfModuleFields
	if err := s.Bind(&f); err != nil {
		return nil, err
	}
	all := make(map[uint64]btfModule)
	for addr, err := range k.List(head, f.List) {
		if err != nil || len(all) == maxModules {
			return all, err
		}
		module, err1 := k.Value(addr, f.Module)
		data, err2 := k.Value(addr, f.Data)
		size, err3 := k.Value(addr, f.Size)
		for _, err := range []error{err1, err2, err3} {
			if err != nil {
				return all, errors.WithMessage(err, "btf_modules")
			}
		}
		all[module] = btfModule{data, size}
	}
	return all, nil
}
