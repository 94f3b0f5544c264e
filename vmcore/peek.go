package vmcore

import "io"

// A Peeked is a stream that has been looked at. [Stream] takes it from its
// beginning nevertheless, and so does a reader.
type Peeked struct {
	h *head
	r io.Reader // once it is read otherwise
}

// Peek reads the beginning of a stream.
func Peek(r io.Reader) *Peeked { return &Peeked{h: &head{r: r}} }

// Kind returns what kind of file the stream is, if it is not a dump that
// [Stream] takes.
func (p *Peeked) Kind() Kind { return Identify(p.h) }

// Read reads the stream from its beginning. It must not be passed to [Stream]
// then.
func (p *Peeked) Read(b []byte) (int, error) {
	if p.r == nil {
		p.r = io.MultiReader(p.h.replay(), p.h.r)
	}
	return p.r.Read(b)
}

// headOf returns the head of a stream.
func headOf(r io.Reader) *head {
	if p, ok := r.(*Peeked); ok {
		return p.h
	}
	return &head{r: r}
}
