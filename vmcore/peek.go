package vmcore

import "io"

// A Peeked is a stream whose beginning has been read to see what it is. Both
// [Stream] and Read still take it from its beginning.
type Peeked struct {
	h *head
	r io.Reader // for Read; nil until it is called
}

// Peek reads the beginning of a stream.
func Peek(r io.Reader) *Peeked { return &Peeked{h: &head{r: r}} }

// Kind returns what kind of file the stream is, if it is not a dump that
// [Stream] takes.
func (p *Peeked) Kind() Kind { return Identify(p.h) }

// Read reads the stream from its beginning. After that the Peeked must not be
// passed to [Stream].
func (p *Peeked) Read(b []byte) (int, error) {
	if p.r == nil {
		p.r = io.MultiReader(p.h.replay(), p.h.r)
	}
	return p.r.Read(b)
}
