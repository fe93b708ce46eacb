# Compute Module 4: eMMC, the small UART, and what the firmware has made of its device tree and command line.
setenv devtype mmc
setenv devnum 0
setenv console ttyS0,115200
# The slot's device tree would be one without the overlays of config.txt.
setenv fdtfile
fdt addr ${fdt_addr}
fdt get value bootargs_more /chosen bootargs
