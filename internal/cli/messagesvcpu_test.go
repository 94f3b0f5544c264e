package cli

import (
	"os/exec"
	"strings"
	"testing"
)

// TestShellWord: a command line out of a dump, pasted into a shell, is the words
// that it was, and nothing that runs.
func TestShellWord(t *testing.T) {
	for _, tt := range []struct{ name, word, want string }{
		{"plain", "-name", "-name"},
		{"empty", "", "''"},
		{"a blank", "a b", "'a b'"},
		{"a command", "$(touch x)", "'$(touch x)'"},
		{"a quote", "it's", `'it'\''s'`},
		{"a command after a quote", "';touch x;'", `''\'';touch x;'\'''`},
		{"a line", "a\nb", `'a\x0ab'`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := shellWord(tt.word)
			if got != tt.want {
				t.Errorf("%s, expected %s", got, tt.want)
			}
			if strings.Contains(tt.word, "\n") {
				return // shown, not kept
			}
			sh, err := exec.LookPath("sh")
			if err != nil {
				return
			}
			out, err := exec.Command(sh, "-c", `printf %s `+got).Output()
			if err != nil || string(out) != tt.word {
				t.Errorf("a shell takes %s for %q (%v)", got, out, err)
			}
		})
	}
}
