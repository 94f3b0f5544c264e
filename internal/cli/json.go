package cli

import "vmcsnote/internal/jsonstream"

// A failure is the document that --json prints where a command fails before it
// has another one to print. Its JSON names are fixed.
type failure struct {
	File  string `json:"file,omitempty"` // if one was given
	Error string `json:"error"`
}

// failJSON prints the document for an error, unless there is one already.
func (e *env) failJSON(err error) {
	if e.file != "" {
		err = named(e.file, err)
	}
	e.json(failure{e.file, err.Error()})
}

// json prints one document. A command prints no second one: after a signal that
// is of no use, but it may be tried.
func (e *env) json(v any) error {
	if !e.answer() {
		return nil
	}
	return jsonstream.Write(e.Stdout, v)
}

// answer reports whether a document may be printed: none has been.
func (e *env) answer() bool { return e.answered == nil || e.answered.CompareAndSwap(false, true) }
