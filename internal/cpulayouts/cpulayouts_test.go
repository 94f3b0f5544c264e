package cpulayouts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/vmcs"
)

const text = `REVISION_ID=4
FORM=offsets
ACCESS_RIGHTS=packed
CPU_FAMILY=6
CPU_MODEL=9e
CPU_STEPPING=d
CPU_MICROCODE=f4
FIELD(GUEST_CS_SELECTOR)=30
FIELD(GUEST_RIP)=9d8
`

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"a file", "", "", ""},
		{"no stepping", "CPU_STEPPING=d\n", "", "no line CPU_STEPPING="},
		{"no microcode", "CPU_MICROCODE=f4\n", "", "no line CPU_MICROCODE="},
		{"microcode 0 is none", "CPU_MICROCODE=f4", "CPU_MICROCODE=0", "is 0"},
		{"microcode in words", "CPU_MICROCODE=f4", "CPU_MICROCODE=new", "is 0"},
		{"a model that CPUID cannot say", "CPU_MODEL=9e", "CPU_MODEL=1234567", "is larger than"},
		{"revision id 0 is none", "REVISION_ID=4", "REVISION_ID=0", "is 0"},
		{"no fields", "FIELD(", "NOFIELD", "not a VMCS layout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parse([]byte(strings.ReplaceAll(text, tt.old, tt.new)))
			if tt.want == "" {
				want := vmcs.Processor{Family: 6, Model: 0x9e, Stepping: 0xd, Microcode: 0xf4, RevisionID: 4}
				if err != nil || f.Processor != want || fileName(f.Processor) != "06-9e-0d-f4" {
					t.Errorf("%+v, %v", f, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// file is text with lines replaced.
func file(t *testing.T, name string, replace ...string) *File {
	t.Helper()
	f, err := parse([]byte(strings.NewReplacer(replace...).Replace(text)))
	if err != nil {
		t.Fatal(err)
	}
	f.Name = name
	return f
}

func TestChoose(t *testing.T) {
	host := vmcs.Processor{Vendor: "GenuineIntel", Family: 6, Model: 0x9e, Stepping: 0xd, Microcode: 0xf4, RevisionID: 4}
	change := func(set func(p *vmcs.Processor)) vmcs.Processor {
		p := host
		set(&p)
		return p
	}
	a, b := file(t, "a"), file(t, "b")
	moved := file(t, "moved", "=9d8", "=9e0")
	core, atom := file(t, "core", "FORM", "CPU_TYPE=core\nFORM"), file(t, "atom", "FORM", "CPU_TYPE=atom\nFORM", "=9d8", "=9e0")
	for _, tt := range []struct {
		name      string
		files     []*File
		p         vmcs.Processor
		any       bool
		want      string // the file taken
		refused   string // why the first that was refused is
		microcode string
		others    int
		conflict  bool
	}{
		{name: "no files", p: host},
		{name: "it fits", files: []*File{a}, p: host, want: "a"},
		{name: "the MSR cannot be read", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.RevisionID = 0 }), want: "a"},
		{name: "another model", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Model = 0x55 }), refused: "model 9e, and this one is 55"},
		{name: "another model, whatever microcode is allowed", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Model = 0x55 }), any: true, refused: "model 9e, and this one is 55"},
		{name: "another family", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Family = 0x13 }), refused: "family 6, and this one is 13"},
		{name: "another stepping", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Stepping = 0xc }), refused: "stepping d, and this one is c"},
		{name: "another vendor with the same numbers", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Vendor = "CentaurHauls" }), refused: "vendor GenuineIntel, and this one is CentaurHauls"},
		{name: "another revision id by the MSR", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.RevisionID = 0x13 }), refused: "revision id 4, and this one is 13"},
		{name: "a virtual machine", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Hypervisor = true }), refused: "of a real processor, and this is a virtual machine, whose VMCSs are its hypervisor's"},
		{name: "found in a virtual machine", files: []*File{file(t, "vm", "FORM", "HYPERVISOR=1\nFORM")}, p: host, refused: "found in a virtual machine, and this one is real"},
		{name: "another microcode", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Microcode = 0xf8 }), refused: "microcode f4, and this one is f8"},
		{name: "another microcode, allowed", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Microcode = 0xf8 }), any: true, want: "a", microcode: "microcode f4, and this one is f8"},
		{name: "any microcode is allowed, and one is the same", files: []*File{a, file(t, "new", "=f4", "=f8")}, p: change(func(p *vmcs.Processor) { p.Microcode = 0xf8 }), any: true, want: "new", refused: "microcode f4, and this one is f8"},
		{name: "the microcode is not known", files: []*File{a}, p: change(func(p *vmcs.Processor) { p.Microcode = 0 }), refused: "microcode f4, and this one's is not known"},
		{name: "two that are the same", files: []*File{a, b}, p: host, want: "a", others: 1},
		{name: "two that contradict each other", files: []*File{a, moved}, p: host, want: "a", others: 1, conflict: true},
		{name: "two types of cores: CPU 0's", files: []*File{atom, core}, p: change(func(p *vmcs.Processor) { p.Type = "core" }), want: "core", refused: "type atom, and CPU 0 is core"},
		{name: "two types of cores: which is not known", files: []*File{atom, core}, p: host, want: "atom", others: 1, conflict: true},
		{name: "nothing is known of the processor", files: []*File{a}, refused: "the processor is not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Choose(tt.files, tt.p, tt.any)
			got, refused := "", ""
			if c.File != nil {
				got = c.File.Name
			}
			if len(c.Refused) > 0 {
				refused = c.Refused[0].Why
			}
			if got != tt.want || refused != tt.refused || c.Microcode != tt.microcode || len(c.Others) != tt.others || c.Conflict != tt.conflict {
				t.Errorf("took %q, refused %q, microcode %q, %d others, conflict %v", got, refused, c.Microcode, len(c.Others), c.Conflict)
			}
		})
	}
}

func TestReadAndInstall(t *testing.T) {
	root := machine(t, map[string]string{
		"usr/share/vmcsnote/layouts/06-9e-0d-f4": text,
		"etc/vmcsnote/layouts.d/.hidden":         "no layout",
		"etc/vmcsnote/layouts.d/old~":            "no layout",
		"etc/vmcsnote/layouts.d/junk":            "no layout",
		"etc/vmcsnote/layouts.d/two words":       text,
		"etc/vmcsnote/layouts.d/foreign":         text,
	})
	if err := os.Chmod(filepath.Join(root, OwnDir, "foreign"), 0o666); err != nil {
		t.Fatal(err)
	}
	f := file(t, "")
	for range 2 { // the same may be installed again
		path, err := Install(root, f, false)
		if want := filepath.Join(root, OwnDir, "06-9e-0d-f4"); err != nil || path != want {
			t.Fatalf("%s, %v, want %s", path, err, want)
		}
	}
	other := file(t, "", "=9d8", "=9e0")
	if _, err := Install(root, other, false); err == nil {
		t.Error("another layout was replaced")
	}
	files, bad := Read(root)
	var names, why []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	for _, err := range bad {
		why = append(why, strings.ReplaceAll(err.Error(), root, ""))
	}
	if got := strings.Join(names, " "); got != OwnDir+"/06-9e-0d-f4 "+SharedDir+"/06-9e-0d-f4" {
		t.Errorf("files %s", got)
	}
	if len(why) != 3 || !strings.Contains(why[0], "foreign: ") || !strings.Contains(why[0], "could have written it") ||
		!strings.HasPrefix(why[1], OwnDir+"/junk: ") || !strings.Contains(why[2], "expected a name") {
		t.Errorf("not used: %q", why)
	}
	if _, err := Install(root, other, true); err != nil {
		t.Error(err)
	}
	if files, _ := Read(root); files[0].Layout.Same(f.Layout) {
		t.Error("the layout was not replaced")
	}
}

func TestDiffer(t *testing.T) {
	cpu := vmcs.Processor{Vendor: "GenuineIntel", Family: 6, Model: 0x9e, Stepping: 13, Microcode: 0xf4}
	for _, tt := range []struct {
		name string
		own  string // the note's lines
		want string
	}{
		{"the same", "CPU_FAMILY=6\nCPU_MODEL=9e\nCPU_STEPPING=d\nCPU_MICROCODE=f4\n", ""},
		{"no microcode", "CPU_FAMILY=6\nCPU_MODEL=9e\nCPU_STEPPING=d\n", ""},
		{"another microcode", "CPU_FAMILY=6\nCPU_MODEL=9e\nCPU_STEPPING=d\nCPU_MICROCODE=f8\n", "microcode f8, and this one is f4"},
		{"another model", "CPU_FAMILY=6\nCPU_MODEL=55\nCPU_STEPPING=4\n", "model 55, and this one is 9e"},
		{"another vendor", "CPU_VENDOR=Shanghai\nCPU_FAMILY=6\nCPU_MODEL=9e\nCPU_STEPPING=d\n", "vendor Shanghai, and this one is GenuineIntel"},
		{"a note that does not tell", "", ""},
	} {
		l, err := vmcs.ParseNote([]byte("REVISION_ID=4\nFORM=offsets\n" + tt.own + "FIELD(GUEST_RIP)=9d8\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := Differ(l.Processor(), cpu); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := Differ(cpu, vmcs.Processor{}); got != "" {
		t.Errorf("nothing is known of the dump: %q", got)
	}
}
