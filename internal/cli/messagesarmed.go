package cli

import (
	"io"
	"strings"
)

// armed tells what verify --armed has found, and what follows.
func (e *env) armed(a *armoury) error {
	if a.json {
		return e.json(a.checks)
	}
	var b strings.Builder
	for _, c := range a.checks {
		b.WriteString(c.State + ": " + c.Check + ": " + name(c.Text))
		if c.Cure != "" {
			b.WriteString("; " + c.Cure)
		}
		b.WriteByte('\n')
	}
	switch a.found {
	case isOK:
		b.WriteString("armed\n")
	case isNone:
		b.WriteString("nothing to record\n")
	case isNot:
		b.WriteString("not armed\n")
	default:
		b.WriteString("not known to be armed\n")
	}
	_, err := io.WriteString(e.stdout, b.String())
	return err
}
