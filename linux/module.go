package linux

import (
	"bytes"
	"debug/elf"
	"encoding/binary"

	"github.com/pkg/errors"
)

const (
	maxModules       = 4096
	maxModuleSymbols = 1 << 18
	maxModuleStrings = 8 << 20
	// maxModuleBytes bounds the symbol tables of all modules together: modules
	// of a hostile dump can share one.
	maxModuleBytes = 64 << 20
)

// A Module is a loaded kernel module.
type Module struct {
	Name string
	Addr uint64 // of its struct module

	k       *Kernel
	fields  *moduleFields
	code    span // where its code lies
	symbols lazy[[]elf.Sym64]
	strings []byte
	types   lazy[*types]
}

type moduleFields struct {
	List    Field `btf:"list"`
	Name    Field `btf:"name"`
	Symtab  Field `btf:"kallsyms->symtab"`
	Num     Field `btf:"kallsyms->num_symtab"`
	Strings Field `btf:"kallsyms->strtab"`
	// The module's code; mem since 6.4, where code is the first of its kinds
	// of memory (MOD_TEXT).
	Code     Field `btf:"mem[0].base|core_layout.base,optional"`
	CodeSize Field `btf:"mem[0].size|core_layout.text_size,optional"`
}

func (f *moduleFields) binding() Binding { return Binding{"", "module", f} }

// Modules returns the modules that are loaded, which are read once. What was
// read before an error is good.
func (k *Kernel) Modules() ([]*Module, error) {
	return k.modules.get(k.readModules)
}

func (k *Kernel) readModules() (all []*Module, err error) {
	head, err := k.Symbol("modules")
	if err != nil {
		return nil, err
	}
	fields := new(moduleFields)
	if err := k.bind(fields.binding()); err != nil {
		return nil, err
	}
	for addr, err := range k.List(head, fields.List) {
		if err != nil {
			return all, errors.WithMessage(err, "modules")
		}
		if len(all) == maxModules {
			return all, errors.WithMessage(ErrTooMany, "modules")
		}
		name, err := k.fieldText(addr, fields.Name)
		if err != nil {
			return all, err
		}
		m := &Module{Name: name, Addr: addr, k: k, fields: fields}
		if err := k.values(addr, want{&fields.Code, &m.code.addr}, want{&fields.CodeSize, &m.code.size}); err != nil {
			m.code = span{} // no address is the module's then
		}
		all = append(all, m)
	}
	return all, nil
}

// Module returns a module by its name, nil if it is not loaded.
func (k *Kernel) Module(name string) (*Module, error) {
	all, err := k.Modules()
	for _, m := range all {
		if m.Name == name {
			return m, nil
		}
	}
	return nil, err
}

// codeOf returns the module that has its code at an address.
func (k *Kernel) codeOf(addr uint64) (*Module, bool) {
	modules, _ := k.Modules()
	if k.meter.spend(2*len(modules)) != nil {
		return nil, false
	}
	for _, m := range modules {
		if addr-m.code.addr < m.code.size {
			return m, true
		}
	}
	return nil, false
}

// Symbol returns the address of one of the module's symbols. The error wraps
// [ErrNoSymbol] if there is none.
func (m *Module) Symbol(name string) (uint64, error) {
	symbols, err := m.symbols.get(m.readSymbols)
	if err != nil {
		return 0, errors.WithMessage(err, m.Name)
	}
	for _, s := range symbols {
		if s.Shndx != uint16(elf.SHN_UNDEF) && isString(from(m.strings, s.Name), name) {
			return s.Value, nil
		}
	}
	return 0, errors.WithMessagef(ErrNoSymbol, "%s in module %s", name, m.Name)
}

// readSymbols reads the module's symbol table, in which the kernel has put the
// final addresses.
func (m *Module) readSymbols() ([]elf.Sym64, error) {
	var addr, num, text uint64
	f := m.fields
	if err := m.k.values(m.Addr, want{&f.Symtab, &addr}, want{&f.Num, &num}, want{&f.Strings, &text}); err != nil {
		return nil, err
	}
	if num > maxModuleSymbols {
		return nil, corrupt("%d symbols", num)
	}
	if m.k.moduleBytes += num * elf.Sym64Size; m.k.moduleBytes > maxModuleBytes {
		return nil, errors.WithMessage(ErrTooMany, "symbols of modules")
	}
	b, err := m.k.readGrowing(addr, num*elf.Sym64Size)
	if err != nil {
		return nil, err
	}
	if err := m.k.meter.keep(len(b)); err != nil { // once more, as symbols
		return nil, err
	}
	symbols := make([]elf.Sym64, num)
	last := uint32(0)
	for i := range symbols {
		e := b[elf.Sym64Size*i:]
		symbols[i] = elf.Sym64{
			Name: binary.LittleEndian.Uint32(e), Info: e[4], Other: e[5], Shndx: binary.LittleEndian.Uint16(e[6:]),
			Value: binary.LittleEndian.Uint64(e[8:]), Size: binary.LittleEndian.Uint64(e[16:]),
		}
		last = max(last, symbols[i].Name)
	}
	if last >= maxModuleStrings {
		return nil, corrupt("a symbol's name at %#x", last)
	}
	if m.k.moduleBytes += uint64(last); m.k.moduleBytes > maxModuleBytes {
		return nil, errors.WithMessage(ErrTooMany, "symbols of modules")
	}
	// Nothing states where the last name ends.
	if m.strings, err = m.k.readGrowing(text, uint64(last)); err != nil {
		return nil, err
	}
	name, err := m.k.CString(text+uint64(last), maxName)
	m.strings = append(append(m.strings, name...), 0)
	return symbols, err
}

// symbolAt returns the symbol that addr belongs to.
func (m *Module) symbolAt(addr uint64) (best Symbol, ok bool) {
	symbols, err := m.symbols.get(m.readSymbols)
	if err != nil || m.k.meter.spend(4*len(symbols)) != nil {
		return best, false
	}
	for _, s := range symbols {
		// Sections have no size and no name; the name of a mapping
		// symbol or of a local label tells nothing.
		kind := elf.SymType(s.Info & 0xf)
		if kind != elf.STT_FUNC && kind != elf.STT_OBJECT && kind != elf.STT_NOTYPE || s.Shndx == uint16(elf.SHN_UNDEF) {
			continue
		}
		if s.Name == 0 || addr < s.Value || addr-s.Value >= max(s.Size, 1) {
			continue
		}
		if name, _, _ := bytes.Cut(from(m.strings, s.Name), []byte{0}); !ok && len(name) > 0 {
			best, ok = Symbol{string(name), m.Name, s.Value, addr - s.Value}, true
		}
	}
	return best, ok
}

// readGrowing reads n bytes, piece by piece, so that memory is allocated only
// for what is there.
func (k *Kernel) readGrowing(addr, n uint64) ([]byte, error) {
	const piece = 256 << 10
	b := make([]byte, 0, min(n, piece))
	for uint64(len(b)) < n {
		if err := k.meter.keep(int(min(n-uint64(len(b)), piece))); err != nil {
			return nil, err
		}
		old := len(b)
		b = append(b, make([]byte, min(n-uint64(old), piece))...)
		if _, err := k.Read(b[old:], addr+uint64(old)); err != nil {
			return nil, err
		}
	}
	return b, nil
}
