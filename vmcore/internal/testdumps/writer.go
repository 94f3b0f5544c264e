package testdumps

import "io"

// A FailingWriter takes N bytes, and then fails.
type FailingWriter struct{ N int }

// Write implements [io.Writer].
func (w *FailingWriter) Write(p []byte) (int, error) {
	if len(p) > w.N {
		return 0, io.ErrShortWrite
	}
	w.N -= len(p)
	return len(p), nil
}
