package linux

import (
	"iter"

	"github.com/pkg/errors"
)

// An entry of an XArray (include/linux/xarray.h) is a pointer; a value, with
// bit 0 set; or internal, with bits 1:0 equal to 2: a small one is a sibling or
// a placeholder, any other leads to a node. Before 4.20 (radix trees) bit 0
// marked a node, and bit 1 a value.
const (
	xaValue    = 1
	xaInternal = 2
	xaMaxSmall = 4096 // no node is below
)

// maxAllEntries bounds the entries of all XArrays of a kernel together, nodes
// among them: a caller does not hear of nodes, and many arrays can share
// theirs.
const maxAllEntries = 4 * maxEntries

// An Entry is what an XArray has at an index.
type Entry struct {
	Index uint64
	// Value is a pointer, or a value with bit 0 set (xa_mk_value).
	Value uint64
}

// XArray returns the entries of an XArray (struct xarray) at addr, in order of
// their index; IDR and radix trees are XArrays since Linux 4.20, and so are
// their roots. With an error the value is the address of the node that could
// not be read; the rest goes on, but for [ErrTooMany].
func (k *Kernel) XArray(addr uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		w, err := k.newXAWalk()
		var head uint64
		if err == nil {
			head, err = k.Value(addr, w.root.Head)
		}
		if err != nil {
			yield(Entry{Value: addr}, err)
			return
		}
		w.yield = yield
		w.entry(head, 0, 64)
	}
}

type xaWalk struct {
	k      *Kernel
	yield  func(Entry, error) bool
	root   xaRootFields
	node   uint64 // what bits 1:0 of an entry are that leads to a node
	count  int    // of nodes and entries
	fields xaNodeFields
}

type xaRootFields struct {
	Head Field `btf:"xa_head|rnode"` // rnode until 4.19
}

func (f *xaRootFields) binding() Binding { return Binding{"", "xarray", f} }

type xaNodeFields struct {
	Shift Field `btf:"shift"`
	Slots Field `btf:"slots"`
}

func (f *xaNodeFields) binding() Binding { return Binding{"", "xa_node", f} }

func (k *Kernel) newXAWalk() (*xaWalk, error) {
	w := &xaWalk{k: k, node: xaInternal}
	root, node := w.root.binding(), w.fields.binding()
	_, err := k.Struct(root.Struct)
	var none *TypeError
	if errors.As(err, &none) { // until 4.19
		root.Struct, node.Struct, w.node = "radix_tree_root", "radix_tree_node", 1
	}
	if err := k.bind(root, node); err != nil {
		return nil, err
	}
	if n := w.fields.Slots.Count; n != 16 && n != 64 {
		return nil, corrupt("struct %s has %d slots", node.Struct, n)
	}
	return w, nil
}

// entry walks an entry that begins at index. Each node has a lower shift than
// the one that leads to it, so that the walk ends. It returns false at the end
// of the walk.
func (w *xaWalk) entry(entry, index uint64, above int) bool {
	if entry == 0 {
		return true
	}
	w.k.entries++
	if w.count++; w.count > maxEntries || w.k.entries > maxAllEntries {
		w.yield(Entry{index, entry}, errors.WithMessage(ErrTooMany, "XArray"))
		return false
	}
	switch {
	case entry&3 != w.node:
		return w.yield(Entry{index, entry}, nil)
	case entry < xaMaxSmall: // a sibling, a retry or a reserved entry
		return true
	}
	node := entry - w.node
	shift, err := w.k.Value(node, w.fields.Shift)
	if err == nil && int(shift) >= above {
		err = corrupt("XArray node at %#x has the shift %d below one of %d", node, shift, above)
	}
	var slots []uint64
	if err == nil {
		slots, err = w.k.Elements(node, w.fields.Slots)
	}
	if err != nil {
		return w.yield(Entry{index, node}, err)
	}
	for i, e := range slots {
		if !w.entry(e, index+uint64(i)<<shift, int(shift)) {
			return false
		}
	}
	return true
}
