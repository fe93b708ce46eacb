# U-Boot's script of a box with two slots (mkimage -T script -d boot.cmd boot.scr, on the partition that U-Boot starts from).
#
# Three variables say what is to be started, and RAUC sets them (bootloader=uboot):
#   BOOT_ORDER                 which slot is tried first: "A B" or "B A"
#   BOOT_A_LEFT, BOOT_B_LEFT   how often a slot may still be tried; each try takes one, `rauc status mark-good` gives three
#
# They lie in two copies, in the partitions state-a and state-b, in the format of U-Boot's redundant environment: CRC-32 of the
# data, a number that rises, the data. Written is always the older copy. A power cut in the midst of that leaves it with a
# wrong CRC, and the other one holds. fw_env.config tells Linux the same. A board whose U-Boot has its own redundant environment
# at a place that Linux reaches needs none of this: there the variables are read already, and `saveenv` writes them.
#
# Partitions by name: state-a, state-b (16 KiB each), rootfs-a, rootfs-b. Kernel, initramfs and device tree lie in the slot, in /boot,
# so that they are updated with it. All numbers are hexadecimal.

# --- what differs from board to board: the disk, the console, the device tree
test -n "${devtype}" || setenv devtype virtio
test -n "${devnum}" || setenv devnum 0
test -n "${console}" || setenv console ttyAMA0
test -n "${fdt_addr}" || setenv fdt_addr ${fdtcontroladdr}

setexpr raw_a ${kernel_addr_r} + 0
setexpr raw_b ${kernel_addr_r} + 10000
# A copy without its number, which is how `env import -c` and `env export -c` know it.
setexpr plain ${kernel_addr_r} + 20000
setexpr plain_data ${plain} + 4

${devtype} dev ${devnum}
part start ${devtype} ${devnum} state-a start_a
part start ${devtype} ${devnum} state-b start_b
${devtype} read ${raw_a} ${start_a} 20
${devtype} read ${raw_b} ${start_b} 20

# Takes the three variables, and no others, out of the copy at ${raw}; fails if its CRC is wrong.
setenv take 'setexpr data ${raw} + 5; cp.b ${raw} ${plain} 4; cp.b ${data} ${plain_data} 3ffb; env import -c ${plain} 3fff BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT'

setenv holds_a no
setenv raw ${raw_a}
if run take; then setenv holds_a yes; fi
setenv holds_b no
setenv raw ${raw_b}
if run take; then setenv holds_b yes; fi

setexpr at ${raw_a} + 4
setexpr.b number_a *${at}
setexpr at ${raw_b} + 4
setexpr.b number_b *${at}

# The newer of those that hold. The number goes round: 0 is newer than ff.
setenv newest none
if test ${holds_a} = yes; then setenv newest a; fi
if test ${holds_b} = yes; then
  if test ${holds_a} = no; then
    setenv newest b
  else
    if itest.b ${number_b} > ${number_a}; then setenv newest b; fi
    if itest.b ${number_a} == ff && itest.b ${number_b} == 0; then setenv newest b; fi
    if itest.b ${number_b} == ff && itest.b ${number_a} == 0; then setenv newest a; fi
  fi
fi

setenv number 0
setenv raw_older ${raw_a}
setenv start_older ${start_a}
if test ${newest} = a; then
  setenv number ${number_a}
  setenv raw_older ${raw_b}
  setenv start_older ${start_b}
  # What the other copy said is in the variables.
  setenv raw ${raw_a}
  run take
fi
if test ${newest} = b; then setenv number ${number_b}; fi
test ${newest} != none || echo "boot: no copy of the state holds, starting anew"

test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3
# Both were tried in vain. A box that nobody is near goes on trying.
if test ${BOOT_A_LEFT} -lt 1 && test ${BOOT_B_LEFT} -lt 1; then
  echo "boot: no slot has a try left, giving each three"
  setenv BOOT_A_LEFT 3
  setenv BOOT_B_LEFT 3
fi

setenv slot
for candidate in ${BOOT_ORDER}; do
  if test -z "${slot}"; then
    if test ${candidate} = A && test ${BOOT_A_LEFT} -gt 0; then
      setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
      setenv slot A
      setenv label rootfs-a
    fi
    if test ${candidate} = B && test ${BOOT_B_LEFT} -gt 0; then
      setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
      setenv slot B
      setenv label rootfs-b
    fi
  fi
done

# An order that names no slot.
if test -z "${slot}"; then
  setenv BOOT_ORDER "A B"
  setenv BOOT_A_LEFT 2
  setenv BOOT_B_LEFT 3
  setenv slot A
  setenv label rootfs-a
fi

setexpr number ${number} + 1
setexpr.b number ${number} \& ff
setexpr data ${raw_older} + 5
setexpr at ${raw_older} + 4
env export -c -s 3fff ${plain} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
cp.b ${plain} ${raw_older} 4
mw.b ${at} ${number} 1
cp.b ${plain_data} ${data} 3ffb
${devtype} write ${raw_older} ${start_older} 20

echo "boot: slot ${slot}, order ${BOOT_ORDER}, left A ${BOOT_A_LEFT} B ${BOOT_B_LEFT}, state ${newest} ${number}"
setenv bootargs "console=${console} root=PARTLABEL=${label} ro rauc.slot=${slot} panic=10 quiet ${bootargs_more}"
part number ${devtype} ${devnum} ${label} partition

# A slot may bring an initramfs, and for a board that names one (fdtfile) a device tree in place of U-Boot's own. What it brings
# must be whole.
setenv whole yes
setenv initramfs -
if test -e ${devtype} ${devnum}:${partition} boot/initrd.img; then
  if load ${devtype} ${devnum}:${partition} ${ramdisk_addr_r} boot/initrd.img; then setenv initramfs ${ramdisk_addr_r}:${filesize}; else setenv whole no; fi
fi
if test -n "${fdtfile}"; then
  if test -e ${devtype} ${devnum}:${partition} boot/${fdtfile}; then
    if load ${devtype} ${devnum}:${partition} ${fdt_addr_r} boot/${fdtfile}; then setenv fdt_addr ${fdt_addr_r}; else setenv whole no; fi
  fi
fi
test ${whole} = yes && load ${devtype} ${devnum}:${partition} ${kernel_addr_r} boot/Image && booti ${kernel_addr_r} ${initramfs} ${fdt_addr}

# The slot does not start: the try is counted, and the next one may be the other slot's.
echo "boot: slot ${slot} does not start"
sleep 1
reset
