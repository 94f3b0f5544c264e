package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pkg/errors"

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

// How the families of kdump make a capture initramfs anew.
const (
	rebuildFedora = "kdumpctl rebuild && kdumpctl reload"
	rebuildSUSE   = "mkdumprd -f && systemctl restart kdump"
	installIt     = "install vmcsnote's package for this kdump"
)

// capture checks what the capture kernel will find: on Debian and Ubuntu the
// root file system, everywhere else an initramfs.
func (a *armoury) capture() {
	if _, err := os.Stat(filepath.Join(a.root, "usr/sbin/kdump-config")); err == nil && a.image == "" {
		a.kdumpTools()
		return
	}
	const what = "initramfs"
	path, rebuild := a.findImage()
	if path == "" {
		a.no(what, "none for capturing below "+a.root+", neither in boot nor in var/lib/kdump", "start kdump, or name it with --initrd FILE")
		return
	}
	im, err := readImage(path)
	var missing unpack.NoProgram
	switch {
	case errors.Is(err, fs.ErrPermission):
		a.unknown(what, err.Error(), asRoot)
	case errors.As(err, &missing):
		a.unknown(what, "cannot look inside "+path+": "+missing.Error(), "install "+missing.Package())
	case err != nil:
		a.no(what, named(path, err).Error(), rebuild)
	default:
		a.ok(what, path)
		a.binary(im, rebuild)
		a.recordInside(im, rebuild)
		a.hook(im, rebuild)
	}
}

// binDirs are where the capture environments look for programs.
const binDirs = "usr/bin/ usr/sbin/ bin/ sbin/ usr/local/bin/ usr/local/sbin/"

// binary checks that the program is where hooks look for it.
func (a *armoury) binary(im *image, rebuild string) {
	const what = "program"
	for dir := range strings.FieldsSeq(binDirs) {
		if im.runs(dir + "vmcsnote") {
			a.ok(what, dir+"vmcsnote is in it")
			return
		}
	}
	a.no(what, "vmcsnote is not in it", installIt+", then "+rebuild)
}

// recordInside compares the record in the image with the machine's. It is older
// as a rule, which is well as long as the note is the same: the hook looks for
// the newer one on the root file system, but a dump may go elsewhere.
func (a *armoury) recordInside(im *image, rebuild string) {
	const what = "record inside"
	text, there := im.contents[defaultRecord[1:]]
	if !there {
		a.no(what, "no record is in it", recordAgain+", then "+rebuild)
		return
	}
	inside, err := record.Parse([]byte(text))
	if err != nil {
		a.no(what, err.Error(), rebuild)
		return
	}
	of := "in it, of " + day(inside.Time)
	switch r, err := record.ReadFile(filepath.Join(a.root, defaultRecord)); {
	case err != nil:
		a.unknown(what, "one is "+of+", with none to compare it to", recordAgain)
	case string(inside.Encode()) == string(r.Encode()):
		a.ok(what, "the same is "+of)
	case len(inside.Note) > 0 && string(inside.Note) == string(r.Note):
		a.ok(what, "one with the same note is "+of)
	default:
		a.no(what, "another note is "+of, rebuild)
	}
}

// hook checks that what saves the dump will call the program.
func (a *armoury) hook(im *image, rebuild string) {
	const what = "hook"
	conf := im.contents[kdumpConf]
	lacking := func(what string) string { return what + " is not in it" }
	if away := setting(conf, "ssh") + setting(conf, "raw"); away != "" {
		switch command := setting(conf, "core_collector"); {
		case !strings.Contains(command, collector):
			a.no(what, "kdump.conf sends the dump to "+away+", and core_collector does not begin with "+collector,
				"put it before makedumpfile there, then "+rebuild)
		case !im.runs("usr/bin/" + collector):
			a.no(what, lacking(collector), installIt+", then "+rebuild)
		default:
			a.ok(what, "core_collector "+command)
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
		a.no(what, lacking(postHook), installIt+", then "+rebuild)
	case caller == "":
		a.no(what, "nothing in etc/kdump/post.d there calls "+postHook, installIt+", then "+rebuild)
	default:
		a.ok(what, "called by "+caller)
	}
}

// setting gives the value of name in a kdump.conf: lines of a name and a value,
// or, in SUSE's, NAME="VALUE"; # begins a comment.
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
func (a *armoury) kdumpTools() {
	for _, c := range [...]struct{ what, paths string }{
		{"program", strings.ReplaceAll(binDirs, "/ ", "/vmcsnote ") + "vmcsnote"},
		{"hook", libDir + "capture"},
		{"makedumpfile", libDir + "makedumpfile"},
		{"collector", libDir + collector},
		{"drop-in", dropIn("etc") + dropIn("usr/lib") + dropIn("lib")},
	} {
		found := ""
		for path := range strings.FieldsSeq(c.paths) {
			path = filepath.Join(a.root, path)
			info, err := os.Stat(path)
			if err == nil && info.Mode().IsRegular() && (info.Mode()&0o111 != 0 || c.what == "drop-in") && found == "" {
				found = path
			}
		}
		if found != "" {
			a.ok(c.what, found)
		} else {
			a.no(c.what, "missing: "+c.paths, installIt)
		}
	}
}

// dropIn is where the unit that saves the dump is told to call the hook.
func dropIn(dir string) string {
	return dir + "/systemd/system/kdump-tools-dump.service.d/vmcsnote.conf "
}
