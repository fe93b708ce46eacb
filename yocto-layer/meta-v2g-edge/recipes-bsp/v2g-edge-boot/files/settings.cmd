# What a board sets before the script begins: disk, console, device tree. QEMU's virtual machine is what the script takes anyway.
setenv bootargs_more rootwait
