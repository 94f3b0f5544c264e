package vmcs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
)

// added returns the lines that the patches in scripts/linux add, from the first
// that begins so to the line before the next that begins otherwise.
func added(t *testing.T, patch, from, to string) string {
	t.Helper()
	files, err := filepath.Glob("../scripts/linux/" + patch + "-*.patch")
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %v, %v", patch, files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n+"+from)
	text, _, ok2 := strings.Cut(text, "\n+"+to)
	if !ok || !ok2 {
		t.Fatalf("%s does not add %q and then %q", files[0], from, to)
	}
	return strings.ReplaceAll(from+text+"\n", "\n+", "\n")
}

// A processor with three VMCSs, for the kernel's code. The second one's VMPTRLD
// fails; the third is saved twice. A VMREAD that fails is told by
// VM-instruction error. Prints the list's head and the VMCSs with their
// records.
const savedMain = `
struct vmcs { char page[4096]; };
struct loaded_vmcs { struct vmcs *vmcs; struct vmx_crash_vmcs *crash_vmcs; };
static char mem[6][4096] __attribute__((aligned(4096)));
static u64 current;
static int failed;
static u64 __pa(void *p) { return (char *)p - mem[0] + 0x100000; }
static int raw_smp_processor_id(void) { return 3; }
static bool vmx_crash_vmptrld(u64 phys) { current = phys; failed = 0; return phys != 0x101000; }
static bool vmx_crash_vmread(unsigned long field, u64 *value)
{
	if (field % 14 == 0)
		failed = 12;
	else if (field == VM_INSTRUCTION_ERROR)
		*value = failed ? failed : 7;
	else
		*value = current << 32 | field;
	return field % 14 != 0;
}
`

const savedRun = `
int main(void)
{
	for (int i = 0; i < 3; i++) {
		struct loaded_vmcs v = { (struct vmcs *)mem[i], (struct vmx_crash_vmcs *)mem[3 + i] };
		vmx_save_crash_vmcs(&v);
		if (i == 2)
			vmx_save_crash_vmcs(&v);
	}
	struct loaded_vmcs none = { (struct vmcs *)mem[0], NULL };
	vmx_save_crash_vmcs(&none);
	fwrite(&vmx_crash_list, sizeof vmx_crash_list, 1, stdout);
	fwrite(mem, sizeof mem, 1, stdout);
	return 0;
}
`

// What the patches in scripts/linux write is what FindSaved reads: the code in
// the patches runs here, but for its VMPTRLD and VMREAD.
func TestSavedByPatches(t *testing.T) {
	cc := testcores.Tool(t, "cc")
	var src strings.Builder
	src.WriteString(`#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
#define PAGE_SIZE 4096ul
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define IS_ENABLED(option) 1
#define READ_ONCE(x) (x)
#define try_cmpxchg(p, old, new) __atomic_compare_exchange_n(p, old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
`)
	for _, f := range Fields() {
		fmt.Fprintf(&src, "#define %s %#x\n", f.Name, uint16(f.Encoding))
	}
	src.WriteString(added(t, "0001", "#define VMX_CRASH_LIST_MAGIC", "#ifdef") + savedMain)
	src.WriteString(added(t, "0001", "struct vmx_crash_list vmx_crash_list", "EXPORT_SYMBOL"))
	src.WriteString(added(t, "0002", "static const struct {", "/*\n+ * Unlike"))
	src.WriteString(added(t, "0002", "static void vmx_save_crash_vmcs", "}") + "}\n" + savedRun)
	dir := t.TempDir()
	file, program := filepath.Join(dir, "saved.c"), filepath.Join(dir, "saved")
	if err := os.WriteFile(file, []byte(src.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-Wall", "-Werror", "-o", program, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(program).Output()
	if err != nil || len(out) != savedListSize+6*PageSize {
		t.Fatalf("%d bytes, %v", len(out), err)
	}
	m := memory{0: append(out[:savedListSize:savedListSize], make([]byte, PageSize-savedListSize)...)}
	for i := range uint64(6) {
		m[0x100000+i*PageSize] = out[savedListSize+i*PageSize:][:PageSize]
	}
	res, err := FindSaved(m, 0)
	if err != nil || len(res.VMCSs) != 2 || res.VMCSs[0].Addr != 0x100000 || res.VMCSs[1].Addr != 0x102000 {
		t.Fatalf("%+v, %v", res, err)
	}
	for _, c := range res.VMCSs {
		for _, e := range c.Layout.Entries {
			want := c.Addr<<32 | uint64(e.Encoding)
			switch {
			case e.Encoding == VMInstructionError:
				want = 7
			case e.Width < 8:
				want &= 1<<(8*e.Width) - 1
			}
			if got, ok := c.Read(e.Encoding); !ok || got != want || e.Encoding%14 == 0 {
				t.Errorf("%#x: %s is %#x, want %#x", c.Addr, e.Name, got, want)
			}
		}
		// All guest state that Linux 7.3 names, but for what this processor lacks.
		for _, e := range []Encoding{GuestRIP, GuestRSP, GuestRFLAGS, GuestCR0, GuestCR3, GuestCR4, GuestESSelector, GuestTRSelector,
			GuestESARBytes, GuestTRARBytes, GuestGDTRBase, GuestIDTRLimit, GuestIA32EFER, GuestSysenterEIP, EPTPointer, HostCR3, HostRIP, VMExitReason} {
			if _, ok := c.Read(e); ok == (e%14 == 0) {
				t.Errorf("%#x: %s is there: %v", c.Addr, e, ok)
			}
		}
	}
}
