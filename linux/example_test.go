package linux_test

import (
	"fmt"
	"log"

	"vmcsnote/linux"
)

// The virtual machines of a host, and who runs them.
func Example() {
	k, err := openHost("amd-6.12") // linux.Open of a dump's memory and VMCOREINFO
	if err != nil {
		log.Fatal(err)
	}
	kvm, err := k.Module("kvm")
	if err != nil {
		log.Fatal(err)
	}
	list, err := kvm.Symbol("vm_list")
	if err != nil {
		log.Fatal(err)
	}
	machine, err := kvm.Struct("kvm")
	if err != nil {
		log.Fatal(err)
	}
	var f struct {
		Link linux.Field `btf:"vm_list"`
		MM   linux.Field `btf:"mm"`
	}
	if err := machine.Bind(&f); err != nil {
		log.Fatal(err)
	}
	for addr, err := range k.List(list, f.Link) {
		if err != nil {
			log.Fatal(err)
		}
		mm, err := k.Value(addr, f.MM)
		if err != nil {
			log.Fatal(err)
		}
		owner, _, err := k.Owner(mm)
		if err != nil {
			log.Fatal(err)
		}
		pid, _ := owner.TGID()
		cgroup, _ := owner.Cgroup()
		fmt.Println(pid, cgroup)
	}
	// Output:
	// 209 /machine.slice/machine-qemu-2-db02.scope
	// 156 /machine.slice/machine-qemu-1-web01.scope
}

// A member that has another name in other kernels, and one at the end of a
// pointer.
func ExampleStruct_Field() {
	k, err := openHost("amd-6.1")
	if err != nil {
		log.Fatal(err)
	}
	node, err := k.Struct("kernfs_node")
	if err != nil {
		log.Fatal(err)
	}
	parent, err := node.Field("__parent", "parent")
	fmt.Println(parent.Path, err)
	_, err = node.Field("grandparent")
	fmt.Println(err)
	// Output:
	// parent <nil>
	// struct kernfs_node has no member grandparent
}

func ExampleKernel_SymbolAt() {
	k, err := openHost("amd-6.1")
	if err != nil {
		log.Fatal(err)
	}
	addr, err := k.Symbol("linux_banner")
	if err != nil {
		log.Fatal(err)
	}
	symbol, err := k.SymbolAt(addr + 16)
	fmt.Println(symbol, err)
	// Output: linux_banner+0x10 <nil>
}
