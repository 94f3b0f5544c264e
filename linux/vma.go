package linux

import (
	"strings"

	"github.com/pkg/errors"
)

// vmaFields is what leads from an address of a process to the file mapped
// there.
type vmaFields struct {
	// Mappings are in a maple tree since 6.1, in a red-black tree before.
	Maple Field `btf:"mm_mt.ma_root,optional"`
	Tree  Field `btf:"mm_rb,optional"`

	vma struct {
		Start  Field `btf:"vm_start"`
		End    Field `btf:"vm_end"`
		Offset Field `btf:"vm_pgoff"`
		File   Field `btf:"vm_file"`
		Node   Field `btf:"vm_rb,optional"`
	}
	file struct {
		Dentry Field `btf:"f_path.dentry"`
	}
	dentry struct {
		Name   Field `btf:"d_name.name"`
		Parent Field `btf:"d_parent"`
	}
	node rbFields
}

func (f *vmaFields) bindings() []Binding {
	return []Binding{
		{"", "mm_struct", f}, {"", "vm_area_struct", &f.vma}, {"", "file", &f.file},
		{"", "dentry", &f.dentry}, f.node.binding(),
	}
}

// A Mapped is a file that a process has mapped.
type Mapped struct {
	// Path is the file's name within its file system, the root of which is
	// "/", wherever it is mounted. It is the user's choice.
	Path   string
	Offset uint64 // in the file, of the address that was asked for
}

// errNoFile means that a process has no file at an address.
var errNoFile = errors.New("no file is mapped there")

// MappedAt returns the file that the task has at an address in user memory. It
// fails if there is none: the process's own memory, or nothing.
func (t Task) MappedAt(addr uint64) (m Mapped, err error) {
	mm, err := t.MM()
	if err != nil {
		return m, err
	}
	if mm == 0 {
		return m, errors.WithMessage(errNoFile, "a kernel thread")
	}
	k := t.k
	f := new(vmaFields)
	if err := k.bind(f.bindings()...); err != nil {
		return m, err
	}
	find := k.vmaByMaple
	if !f.Maple.Valid() {
		find = k.vmaByTree
	}
	vma, err := find(f, mm, addr)
	if err != nil {
		return m, err
	}
	var start, end, file, pages uint64
	if err := k.values(vma, want{&f.vma.Start, &start}, want{&f.vma.End, &end}, want{&f.vma.File, &file}, want{&f.vma.Offset, &pages}); err != nil {
		return m, err
	}
	if addr < start || addr >= end || file == 0 {
		return m, errNoFile
	}
	dentry, err := k.Value(file, f.file.Dentry)
	if err != nil {
		return m, err
	}
	m.Offset = pages*pageSize + addr - start
	m.Path, err = k.dentryPath(f, dentry)
	return m, err
}

// vmaByTree finds the first mapping that ends after addr.
func (k *Kernel) vmaByTree(f *vmaFields, mm, addr uint64) (vma uint64, err error) {
	node, err := k.Value(mm, f.Tree)
	const deepest = 128 // a red-black tree of 2^64 nodes
	for depth := 0; node != 0 && err == nil; depth++ {
		if depth == deepest {
			return 0, errors.WithMessage(ErrLoop, "mappings")
		}
		this := node - f.vma.Node.Offset()
		end, err := k.Value(this, f.vma.End)
		if err != nil {
			return 0, err
		}
		next := f.node.Right
		if addr < end {
			vma, next = this, f.node.Left
		}
		if node, err = k.Value(node, next); err != nil {
			return 0, err
		}
	}
	if vma == 0 && err == nil {
		err = errNoFile
	}
	return vma, err
}

// Kinds of nodes of a maple tree (enum maple_type), in bits 6:3 of a pointer to
// one. A node has 256 bytes: its parent, the last index of each slot but the
// last, and the slots.
const (
	mapleLeaf64  = 1
	mapleRange64 = 2
	mapleARange  = 3
	mapleNode    = 256
)

// vmaByMaple finds the mapping at addr in the maple tree (lib/maple_tree.c).
func (k *Kernel) vmaByMaple(f *vmaFields, mm, addr uint64) (uint64, error) {
	at, err := k.Value(mm, f.Maple)
	if err != nil {
		return 0, err
	}
	if at&3 != 2 || at < pageSize { // no node (xa_is_node): no mapping, or one alone
		return 0, errNoFile
	}
	const deepest = 31 // MAPLE_HEIGHT_MAX
	for range deepest {
		kind, node := at>>3&0xf, at&^(mapleNode-1)
		slots := 16
		switch kind {
		case mapleLeaf64, mapleRange64:
		case mapleARange:
			slots = 10
		default:
			return 0, corrupt("a node of a maple tree at %#x has type %d", node, kind)
		}
		slot := 0
		for ; slot < slots-1; slot++ {
			pivot, err := k.Pointer(node + 8 + 8*uint64(slot))
			if err != nil {
				return 0, err
			}
			// A pivot of 0 is one that is not in use.
			if addr <= pivot || pivot == 0 && slot > 0 {
				break
			}
		}
		if at, err = k.Pointer(node + 8*uint64(slots) + 8*uint64(slot)); err != nil {
			return 0, err
		}
		if kind == mapleLeaf64 {
			if at < pageSize || at&3 != 0 {
				return 0, errNoFile
			}
			return at, nil
		}
	}
	return 0, corrupt("a maple tree that ends in no leaf")
}

// maxDentries bounds the names of a path.
const maxDentries = 128

// dentryPath returns the path of a directory entry within its file system.
func (k *Kernel) dentryPath(f *vmaFields, dentry uint64) (string, error) {
	path := ""
	for range maxDentries {
		parent, err := k.Value(dentry, f.dentry.Parent)
		if err != nil {
			return "", err
		}
		name, err := k.fieldText(dentry, f.dentry.Name)
		if err != nil {
			return "", err
		}
		if parent == dentry { // the root is called "/"
			if path == "" || !strings.HasPrefix(name, "/") {
				path = "/" + name + path // memfd:NAME has no root
			}
			return strings.Replace(path, "//", "/", 1), nil
		}
		path = "/" + name + path
		dentry = parent
	}
	return "", errors.WithMessage(ErrLoop, "path")
}
