# nooelint: oelint.var.bbclassextend - it is for boxes alone
SUMMARY = "U-Boot's script of a box with two slots, and where its state lies"
# A board's layer sets disk, console and device tree in settings.cmd.
DESCRIPTION = "boot.scr takes the slot that is to be tried, counts the try, and starts it; fw_env.config tells RAUC where the count is."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "bootloaders"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

DEPENDS = "u-boot-mkimage-native"
PROVIDES += "u-boot-default-script"

SRC_URI = "\
    file://LICENSE \
    file://configs/system/u-boot \
    file://settings.cmd \
"

S = "${UNPACKDIR}"
B = "${WORKDIR}/build"

inherit deploy kernel-arch v2g_edge_tree

PACKAGE_ARCH = "${MACHINE_ARCH}"
INHIBIT_DEFAULT_DEPS = "1"

do_compile() {
    cat ${S}/settings.cmd ${S}/configs/system/u-boot/boot.cmd > ${B}/boot.cmd
    uboot-mkimage -A ${UBOOT_ARCH} -T script -C none -n "v2g-edge boot" -d ${B}/boot.cmd ${B}/boot.scr
}

do_install() {
    install -D -m 0644 ${S}/configs/system/u-boot/fw_env.config ${D}${sysconfdir}/fw_env.config
}

do_deploy() {
    install -D -m 0644 ${B}/boot.scr ${DEPLOYDIR}/boot.scr
}

addtask deploy after do_compile before do_build

CVE_PRODUCT = "v2g-edge:v2g-edge"
