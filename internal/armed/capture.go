package armed

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/internal/inputfile"
	"vmcsnote/internal/source"
	"vmcsnote/internal/unpack"
	"vmcsnote/record"
)

// Where scripts/ puts what runs in the capture environment, without the first
// slash.
const (
	libDir    = "usr/libexec/vmcsnote/"
	postHook  = libDir + "kdump-post"
	collector = "vmcsnote-collector"
	kdumpConf = "etc/kdump.conf"
)

// capture checks what the capture kernel will find: on Debian and Ubuntu the
// root file system, everywhere else an initramfs.
func (c *checker) capture() {
	if _, err := os.Stat(filepath.Join(c.root, "usr/sbin/kdump-config")); err == nil && c.image == "" {
		c.kdumpTools()
		return
	}
	const what = "initramfs"
	path, rebuild := c.findImage()
	if path == "" {
		c.no(what, "none for capturing below "+c.root+", neither in boot nor in var/lib/kdump", StartKdump)
		return
	}
	im, err := readImage(path)
	var missing unpack.NoProgram
	switch {
	case errors.Is(err, fs.ErrPermission):
		c.forbidden(what, err)
	case errors.As(err, &missing):
		c.unknown(Check{Name: what, Text: "cannot look inside " + path + ": " + missing.Error(), Cures: []Cure{InstallProgram}, Err: missing})
	case err != nil:
		c.no(what, inputfile.About(path, err).Error(), rebuild)
	default:
		c.ok(what, path)
		c.binary(im, rebuild)
		c.recordInside(im, rebuild)
		c.hook(im, rebuild)
	}
}

// binDirs are where the capture environments look for programs.
const binDirs = "usr/bin/ usr/sbin/ bin/ sbin/ usr/local/bin/ usr/local/sbin/"

// binary checks that the program is where hooks look for it.
func (c *checker) binary(im *image, rebuild Cure) {
	const what = "program"
	for dir := range strings.FieldsSeq(binDirs) {
		if im.runs(dir + "vmcsnote") {
			c.ok(what, dir+"vmcsnote is in it")
			return
		}
	}
	c.no(what, "vmcsnote is not in it", InstallHook, rebuild)
}

// recordInside compares the record in the image with the machine's. It is
// usually older, which does not matter as long as the note is the same: the
// hook looks for the newer one on the root file system, but a dump may go
// elsewhere.
func (c *checker) recordInside(im *image, rebuild Cure) {
	const what = "record inside"
	text, there := im.contents[source.DefaultRecord[1:]]
	if !there {
		c.no(what, "no record is in it", Record, rebuild)
		return
	}
	inside, err := record.Parse([]byte(text))
	if err != nil {
		c.no(what, err.Error(), rebuild)
		return
	}
	of := "in it, of " + inside.When()
	switch r, err := record.ReadFile(filepath.Join(c.root, source.DefaultRecord)); {
	case err != nil:
		c.unknown(Check{Name: what, Text: "one is " + of + ", with none to compare it to", Cures: []Cure{Record}})
	case string(inside.Encode()) == string(r.Encode()):
		c.ok(what, "the same is "+of)
	case len(inside.Note) > 0 && string(inside.Note) == string(r.Note):
		c.ok(what, "one with the same note is "+of)
	default:
		c.no(what, "another note is "+of, rebuild)
	}
}

// hook checks that what saves the dump will call the program.
func (c *checker) hook(im *image, rebuild Cure) {
	const what = "hook"
	conf := im.contents[kdumpConf]
	lacking := func(what string) string { return what + " is not in it" }
	if away := setting(conf, "ssh") + setting(conf, "raw"); away != "" {
		switch command := setting(conf, "core_collector"); {
		case !strings.Contains(command, collector):
			c.no(what, "kdump.conf sends the dump to "+away+", and core_collector does not begin with "+collector,
				PutFirst, rebuild)
		case !im.runs("usr/bin/" + collector):
			c.no(what, lacking(collector), InstallHook, rebuild)
		default:
			c.ok(what, "core_collector "+command)
		}
		return
	}
	caller := setting(conf, "kdump_post") + setting(conf, "KDUMP_POSTSCRIPT")
	if !strings.Contains(caller, postHook) {
		caller = ""
		for name := range im.names {
			if strings.HasPrefix(name, "etc/kdump/post.d/") {
				caller = name
			}
		}
	}
	switch {
	case !im.runs(postHook):
		c.no(what, lacking(postHook), InstallHook, rebuild)
	case caller == "":
		c.no(what, "nothing in etc/kdump/post.d there calls "+postHook, InstallHook, rebuild)
	default:
		c.ok(what, "called by "+caller)
	}
}

// setting returns the value of name in a kdump.conf: lines of a name and a
// value, or, in SUSE's, NAME="VALUE"; # begins a comment.
func setting(conf, name string) (value string) {
	for line := range strings.Lines(conf) {
		line, _, _ = strings.Cut(line, "#")
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok && strings.IndexAny(v, " \t=") == 0 {
			value = strings.Trim(v[1:], " \t\"'")
		}
	}
	return value
}

// kdumpTools checks Debian's and Ubuntu's kdump, whose capture kernel boots the
// root file system: nothing needs to be in an initramfs.
func (c *checker) kdumpTools() {
	for _, f := range [...]struct{ what, paths string }{
		{"program", strings.ReplaceAll(binDirs, "/ ", "/vmcsnote ") + "vmcsnote"},
		{"hook", libDir + "capture"},
		{"makedumpfile", libDir + "makedumpfile"},
		{"collector", libDir + collector},
		{"drop-in", dropIn("etc") + dropIn("usr/lib") + dropIn("lib")},
	} {
		found := ""
		for path := range strings.FieldsSeq(f.paths) {
			path = filepath.Join(c.root, path)
			info, err := os.Stat(path)
			if err == nil && info.Mode().IsRegular() && (info.Mode()&0o111 != 0 || f.what == "drop-in") && found == "" {
				found = path
			}
		}
		if found != "" {
			c.ok(f.what, found)
		} else {
			c.no(f.what, "missing: "+f.paths, InstallHook)
		}
	}
}

// dropIn is where the unit that saves the dump is told to call the hook.
func dropIn(dir string) string {
	return dir + "/systemd/system/kdump-tools-dump.service.d/vmcsnote.conf "
}
