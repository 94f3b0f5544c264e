package linux

import (
	"iter"

	"github.com/pkg/errors"
)

// maxEntries bounds the entries of a container.
const maxEntries = 1 << 20

// List returns the objects of a list (struct list_head) that begins at head.
// link is the list_head in each object. With an error the address is that of
// the entry at which the list could not be followed, and nothing follows.
//
// A list that leads back into itself ends with [ErrLoop]; some of its entries
// may have been returned more than once before.
func (k *Kernel) List(head uint64, link Field) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		// Brent's way to find a loop: compare with an entry that is
		// renewed after 1, 2, 4, 8... steps.
		mark, steps, power := head, 0, 1
		at := head
		for n := 0; ; n++ {
			next, err := k.Pointer(at)
			switch {
			case err != nil:
			case next == head:
				return
			case next == mark:
				err = ErrLoop
			case next == 0:
				err = corrupt("list entry at %#x leads to 0", at)
			case n == maxEntries:
				err = ErrTooMany
			}
			if err != nil {
				yield(at, errors.WithMessagef(err, "list at %#x", head))
				return
			}
			if !yield(next-link.offset, nil) {
				return
			}
			at = next
			if steps++; steps == power {
				mark, steps, power = at, 0, power*2
			}
		}
	}
}
