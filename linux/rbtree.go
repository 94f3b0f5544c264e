package linux

import (
	"iter"

	"github.com/pkg/errors"
)

// maxDepth is more than a red-black tree of 2^31 entries has.
const maxDepth = 64

// RBTree returns the objects of a red-black tree (struct rb_root, or
// rb_root_cached) at root in order. link is the rb_node in each object. With an
// error the address is that of the node that could not be followed; what lies
// above it goes on, but for [ErrTooMany].
func (k *Kernel) RBTree(root uint64, link Field) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		w := rbWalk{k: k, link: link, yield: yield}
		err := k.bind(w.fields.binding())
		var node uint64
		if err == nil {
			node, err = k.Pointer(root)
		}
		if err != nil {
			yield(root, err)
			return
		}
		w.node(node, 0)
	}
}

type rbWalk struct {
	k      *Kernel
	link   Field
	yield  func(uint64, error) bool
	count  int
	fields rbFields
}

type rbFields struct {
	Left  Field `btf:"rb_left"`
	Right Field `btf:"rb_right"`
}

func (f *rbFields) binding() Binding { return Binding{"", "rb_node", f} }

// node walks the tree below a node. It returns false at the end of the walk.
func (w *rbWalk) node(at uint64, depth int) bool {
	if at == 0 {
		return true
	}
	w.count++
	switch {
	case depth == maxDepth:
		return w.yield(at, errors.WithMessage(ErrLoop, "red-black tree"))
	case w.count > maxEntries:
		w.yield(at, errors.WithMessage(ErrTooMany, "red-black tree"))
		return false
	}
	left, err := w.k.Value(at, w.fields.Left)
	if err == nil && !w.node(left, depth+1) {
		return false
	}
	var right uint64
	if err == nil {
		right, err = w.k.Value(at, w.fields.Right)
	}
	if err != nil {
		return w.yield(at, err)
	}
	return w.yield(at-w.link.offset, nil) && w.node(right, depth+1)
}
