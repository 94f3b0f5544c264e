package cli

import (
	"slices"
	"strings"
	"testing"
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
	for line, set := range map[string]func(value string) error{
		"inject --placement ": func(v string) error {
			return (&changeFlags{placement: v, format: "same"}).check(&env{}, []string{"vmcore"})
		},
		"inject --format ": func(v string) error {
			return (&changeFlags{format: v, output: "out"}).check(&env{}, []string{"vmcore"})
		},
		"inject --memory ": func(v string) error { return (&sourceFlags{memory: v, name: "VMCSINFO"}).check() },
	} {
		_, all := candidates(shellWords(line), false)
		if len(all) < 2 {
			t.Errorf("%s: %d values", line, len(all))
		}
		for _, c := range all {
			if err := set(c.word); err != nil {
				t.Errorf("%s%s: %v", line, c.word, err)
			}
		}
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
