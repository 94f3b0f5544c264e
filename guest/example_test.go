package guest_test

import (
	"context"
	"fmt"
	"log"

	"vmcsnote/guest"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// List the virtual machines of a crashed host, with the registers of their
// vCPUs, as vmcsnote guests does.
func Example() {
	ctx := context.Background()
	core := open("vmx/hsw-default/mini") // or vmcore.OpenFile

	host := guest.OpenHost(core)
	check(host.FindMachines(ctx, guest.MachineSearch{}))
	check(host.FindRegisters(ctx, nil))
	for m := range host.All() {
		for _, v := range m.VCPUs {
			fmt.Printf("%s %d %#x %v %v %v\n", m.ID(), v.Number, v.Addr, v.Mode(), v.Regs.RIP, v.Regs.GPR[guest.RAX])
		}
	}
	// Output:
	// 0 0 0x1e6d7000 long 0x123019 0x2d54494b53434d56
	// 1 0 0x1fe54000 long 0x77018 ?
	// 1 1 0x1e6c6000 long 0x78018 0x2d54494b53434d56
	// 2 0 0x1ef17000 real 0x7c04 ?
	// 3 0 0x1f389000 long 0x10018 0x2d54494b53434d56
}

// open returns a golden core.
func open(name string) vmcore.Core {
	image, err := testcores.Load("../testdata/cores", name)
	check(err)
	core, err := vmcore.Open(image, image.Size())
	check(err)
	return core
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
