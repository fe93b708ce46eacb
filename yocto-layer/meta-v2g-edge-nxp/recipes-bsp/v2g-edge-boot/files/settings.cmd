# i.MX 8M Plus: eMMC, UART 2, and the device tree of the slot.
setenv devtype mmc
setenv devnum 2
setenv console ttymxc1,115200
setenv bootargs_more rootwait
setenv fdtfile imx8mp-evk.dtb
# RAM begins at 0x40000000; a kernel has 40 MiB from here.
setenv kernel_addr_r 0x40480000
setenv fdt_addr_r 0x43000000
setenv ramdisk_addr_r 0x43800000
