package linux

import (
	"iter"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
	"vmcsnote/internal/x86"
)

// links is where the links of an item are.
func links(t testing.TB, k *Kernel) (node, rb Field) {
	s, err := k.Struct("item")
	if err != nil {
		t.Fatal(err)
	}
	node, err1 := s.Field("node")
	rb, err2 := s.Field("rb")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return node, rb
}

// collect returns what an iterator yields: values, and the last error.
func collect[T any](seq iter.Seq2[T, error]) (all []T, err error) {
	for v, e := range seq {
		if e != nil {
			err = e
			continue
		}
		all = append(all, v)
	}
	return all, err
}

// chainOf makes n items in a list and returns the list's head and the items.
func chainOf(f *fakelinux.Kernel, n int) (head uint64, items []uint64) {
	head = f.Alloc(16)
	at := head
	for range n {
		item := f.Alloc(64)
		items = append(items, item)
		f.Put(at, fakelinux.LE64(item+16))
		at = item + 16
	}
	f.Put(at, fakelinux.LE64(head))
	return head, items
}

func TestList(t *testing.T) {
	f := fakelinux.New()
	shapes(f.Types)
	head, items := chainOf(f, 5)
	empty, _ := chainOf(f, 0)
	loop, looped := chainOf(f, 5)
	f.Put(looped[4]+16, fakelinux.LE64(looped[2]+16))
	self, own := chainOf(f, 2)
	f.Put(own[1]+16, fakelinux.LE64(own[1]+16))
	zero, cut := chainOf(f, 2)
	f.Put(cut[1]+16, fakelinux.LE64(0))
	lost, gone := chainOf(f, 3)
	f.Put(gone[1]+16, fakelinux.LE64(0xdead000000000100)) // LIST_POISON1
	k := openFake(t, f, f.Finish())
	node, _ := links(t, k)
	for _, test := range []struct {
		name  string
		head  uint64
		items []uint64
		err   error
	}{
		{"five items", head, items, nil},
		{"empty", empty, nil, nil},
		{"loop", loop, looped, ErrLoop},
		{"an item that leads to itself", self, own, ErrLoop},
		{"an item that leads to 0", zero, cut, ErrCorrupt},
		{"an item that was removed", lost, gone[:2], nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, err := collect(k.List(test.head, node))
			if test.err != nil && !errors.Is(err, test.err) || test.name == "five items" && err != nil {
				t.Errorf("error is %v, want %v", err, test.err)
			}
			if len(all) < len(test.items) || len(all) > 4*len(test.items) || !slices.Equal(all[:len(test.items)], test.items) {
				t.Errorf("%#x, want %#x", all, test.items)
			}
		})
	}
}

// A list of two million entries that never meets itself.
type endless struct{ *fakelinux.Kernel }

func (e endless) ReadPhys(p []byte, addr uint64) (int, error) {
	if addr < 0x20000000 {
		return e.Kernel.ReadPhys(p, addr)
	}
	for i := range p { // each entry leads to the next, 8 bytes on
		at := addr + uint64(i)
		p[i] = byte((fakeDirect + at&^7 + 8) >> (8 * (at & 7)))
	}
	return len(p), nil
}

func TestListBounded(t *testing.T) {
	f := fakelinux.New()
	shapes(f.Types)
	k := openFake(t, f, f.Finish())
	k.mem, k.cache = endless{f}, pageCache{}
	node, _ := links(t, k)
	n := 0
	var last error
	for _, err := range k.List(fakeDirect+0x20000000, node) {
		n++
		last = err
	}
	if n != maxEntries+1 || !errors.Is(last, ErrTooMany) {
		t.Errorf("%d entries, then %v", n, last)
	}
}

func TestRBTree(t *testing.T) {
	f := fakelinux.New()
	shapes(f.Types)
	var items []uint64
	for range 7 {
		items = append(items, f.Alloc(64))
	}
	link := func(i, left, right int) {
		at := func(i int) uint64 {
			if i < 0 {
				return 0
			}
			return items[i] + 32
		}
		f.Put(items[i]+32+8, append(fakelinux.LE64(at(right)), fakelinux.LE64(at(left))...))
	}
	link(3, 1, 5)
	link(1, 0, 2)
	link(5, 4, 6)
	root := f.Alloc(8, 0, items[3]+32)
	empty := f.Alloc(8)
	loop := f.Alloc(64)
	f.Put(loop+32+8, fakelinux.LE64(loop+32)) // its right child is itself
	own := f.Alloc(8, 0, loop+32)
	both := f.Alloc(64)
	f.Put(both+32+8, append(fakelinux.LE64(both+32), fakelinux.LE64(both+32)...))
	double := f.Alloc(8, 0, both+32)
	k := openFake(t, f, f.Finish())
	_, rb := links(t, k)
	if all, err := collect(k.RBTree(root, rb)); err != nil || !slices.Equal(all, items) {
		t.Errorf("%#x (%v), want %#x", all, err, items)
	}
	if all, err := collect(k.RBTree(empty, rb)); err != nil || all != nil {
		t.Errorf("%#x (%v) in an empty tree", all, err)
	}
	if all, err := collect(k.RBTree(own, rb)); !errors.Is(err, ErrLoop) || len(all) != maxDepth {
		t.Errorf("%d entries, error is %v", len(all), err)
	}
	if all, err := collect(k.RBTree(double, rb)); !errors.Is(err, ErrTooMany) || len(all) > maxEntries {
		t.Errorf("%d entries, error is %v", len(all), err)
	}
}

// xaNode makes a node with slots: index, entry, index, entry...
func xaNode(f *fakelinux.Kernel, shift byte, slots ...uint64) uint64 {
	at := f.Alloc(40 + 512)
	f.Put(at, []byte{shift})
	for i := 0; i < len(slots); i += 2 {
		f.Put(at+40+8*slots[i], fakelinux.LE64(slots[i+1]))
	}
	return at | xaInternal
}

func TestXArray(t *testing.T) {
	f := fakelinux.New()
	shapes(f.Types)
	low := xaNode(f, 0, 0, 0x1000, 1, 0x2000, 2, 1<<2|xaInternal, 3, 7<<1|xaValue, 63, 257<<2|xaInternal)
	top := xaNode(f, 6, 0, low, 2, xaNode(f, 0, 5, 0x3000))
	self := xaNode(f, 6)
	f.Put(self&^3+40, fakelinux.LE64(self))
	array := func(head uint64) uint64 { return f.Alloc(24, 8, head, 16, 1) }
	tree, one, none, loop := array(top), array(0x4000), array(0), array(self)
	lost := array(xaNode(f, 6, 0, 0xdead000000000102, 1, 0x5000))
	k := openFake(t, f, f.Finish())
	for _, test := range []struct {
		name string
		at   uint64
		want []Entry
		err  error
	}{
		{"two levels", tree, []Entry{{0, 0x1000}, {1, 0x2000}, {3, 15}, {133, 0x3000}}, nil},
		{"an entry in the root", one, []Entry{{0, 0x4000}}, nil},
		{"empty", none, nil, nil},
		{"a node that leads to itself", loop, nil, ErrCorrupt},
		{"a node that is not there", lost, []Entry{{64, 0x5000}}, x86.ErrNotCanonical},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, err := collect(k.XArray(test.at))
			if !slices.Equal(all, test.want) || !errors.Is(err, test.err) {
				t.Errorf("%v (%v), want %v", all, err, test.want)
			}
		})
	}
	// Arrays that share their nodes would take hours.
	k.entries = maxAllEntries - 2
	if all, err := collect(k.XArray(tree)); !errors.Is(err, ErrTooMany) || len(all) > 2 {
		t.Errorf("the last of many: %v (%v)", all, err)
	}
	if all, err := collect(k.XArray(tree)); !errors.Is(err, ErrTooMany) || len(all) > 0 {
		t.Errorf("one more: %v (%v)", all, err)
	}
}

// FuzzContainers walks memory that is full of the bytes given.
func FuzzContainers(f *testing.F) {
	fake := fakelinux.New()
	shapes(fake.Types)
	kernel := openFake(f, fake, fake.Finish())
	f.Add(append(fakelinux.LE64(fakeDirect+0x20000008), fakelinux.LE64(fakeDirect+0x20000010)...))
	f.Add(append(fakelinux.LE64(fakeDirect+0x20000002), fakelinux.LE64(6)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		k := *kernel
		k.mem, k.cache = repeated{fake, b}, pageCache{}
		node, rb := links(t, &k)
		at := uint64(fakeDirect + 0x20000000)
		bounded(k.List(at, node))
		bounded(k.RBTree(at, rb))
		bounded(k.XArray(at))
	})
}

// bounded reads some of what an iterator yields: its own bound is tested above.
func bounded[T any](seq iter.Seq2[T, error]) {
	n := 0
	for range seq {
		if n++; n == 10000 {
			return
		}
	}
}

type repeated struct {
	*fakelinux.Kernel
	b []byte
}

func (r repeated) ReadPhys(p []byte, addr uint64) (int, error) {
	if addr < 0x20000000 {
		return r.Kernel.ReadPhys(p, addr)
	}
	for i := range p {
		p[i] = r.b[(addr+uint64(i))%uint64(len(r.b))]
	}
	return len(p), nil
}
