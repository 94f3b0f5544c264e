package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestCandidates completes lines without a shell.
func TestCandidates(t *testing.T) {
	for _, tt := range []struct{ line, kind, want string }{
		{"", onlyWords, strings.Join(names(), " ")},
		{"v", onlyWords, "verify version"},
		{"nosuch ", onlyWords, ""},
		{"inject ", files, ""},
		{"inject --bl", onlyWords, "--blob"},
		{"inject --blob ", files, ""},
		{"inject --blob x --pl", onlyWords, "--placement"},
		{"inject -o ", files, ""},
		{"inject -oout --placement e", onlyWords, "end evict"},
		{"inject --placement=e", onlyWords, "--placement=end --placement=evict"},
		{"inject --nosuch=", onlyWords, ""},
		{"inject -- --pl", files, ""},
		{"inject -", files, ""},
		{"inject --pair ", onlyWords, ""},
		{"record ", onlyWords, ""},
		{"record --memory ", onlyWords, "auto devmem kcore"},
		{"record --root ", directories, ""},
		{"layouts pen", onlyWords, "penryn"},
		{"layouts --submit ", files, ""},
		{"extract --gue", onlyWords, "--guest"},
		{"guests --layout pen", files, "penryn"},
		{"guests --field RAX,guest_rs", onlyWords, ""},
		{"guests --field RAX,GUEST_RS", onlyWords, "RAX,GUEST_RSP"},
		{"guests --field CS.", onlyWords, "CS.RIGHTS CS.BASE CS.LIMIT"},
		{"show --note ER", onlyWords, "ERASEINFO"},
		{"show nosuch --note ER", onlyWords, "ERASEINFO"},
		{"help rem", onlyWords, "remove"},
		{"completion ", onlyWords, "bash zsh fish"},
		{"version ", onlyWords, ""},
	} {
		t.Run(tt.line, func(t *testing.T) {
			kind, all := candidates(shellWords(tt.line), false)
			var words []string
			for _, c := range all {
				words = append(words, c.word)
			}
			if got := strings.Join(words, " "); kind != tt.kind || got != tt.want {
				t.Errorf("%s, %q; expected %s, %q", kind, got, tt.kind, tt.want)
			}
		})
	}
}

// TestCandidatesAreValues: each value that is offered is accepted.
func TestCandidatesAreValues(t *testing.T) {
	found := 0
	for _, c := range commands() {
		fs, _ := c.flags()
		fs.VisitAll(func(f *pflag.Flag) {
			v, ok := f.Value.(chooser)
			if !ok {
				return
			}
			found++
			_, all := candidates(shellWords(c.name+" --"+f.Name+" "), false)
			if len(all) < 2 {
				t.Errorf("%s --%s: %d values", c.name, f.Name, len(all))
			}
			for _, value := range v.complete() {
				if err := fs.Set(f.Name, value.word); err != nil || v.valid() != nil || !slices.Contains(all, value) || f.Value.String() != value.word {
					t.Errorf("%s --%s %s: %v, %v", c.name, f.Name, value.word, err, all)
				}
			}
			if fs.Set(f.Name, "nosuch"); v.valid() == nil {
				t.Errorf("%s --%s nosuch: no error", c.name, f.Name)
			}
		})
	}
	if found < 6 {
		t.Errorf("%d flags", found)
	}
}

func TestShellWords(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"", []string{""}},
		{"a b", []string{"a", "b"}},
		{"a  b ", []string{"a", "b", ""}},
		{`a\ b c`, []string{"a b", "c"}},
		{`'a b' "c \" $d"`, []string{"a b", `c " $d`}},
		{`"a\b"`, []string{`a\b`}},
		{`'a b`, []string{"a b"}},
		{`'' x`, []string{"", "x"}},
		{`a\`, []string{"a"}},
		{"--x=a:b", []string{"--x=a:b"}},
	} {
		t.Run(tt.line, func(t *testing.T) {
			if got := shellWords(tt.line); !slices.Equal(got, tt.want) {
				t.Errorf("%q, expected %q", got, tt.want)
			}
		})
	}
}
