# nooelint: oelint.var.bbclassextend - it is for boxes alone
SUMMARY = "The data partition of a gateway: what must survive an update"
# /etc lies on it before systemd starts: the image feature overlayfs-etc.
DESCRIPTION = "Mounts it, grows it to the end of the disk at the first boot, and puts /var/lib and /var/log on it."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "base"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = "\
    file://LICENSE \
    file://configs/system/systemd/repart.d \
    file://data.mount \
    file://var-lib.mount \
    file://var-log.mount \
"

S = "${UNPACKDIR}"

inherit allarch features_check systemd v2g_edge_tree

REQUIRED_DISTRO_FEATURES = "systemd"

SYSTEMD_SERVICE:${PN} = "data.mount var-lib.mount var-log.mount"

do_install() {
    install -d -m 0755 ${D}/data
    install -D -m 0644 ${S}/configs/system/systemd/repart.d/50-data.conf ${D}${nonarch_libdir}/repart.d/50-data.conf
    # A slot is mounted by its name, and not by what a disk seems to have.
    install -d ${D}${sysconfdir}/systemd/system-generators
    ln -s /dev/null ${D}${sysconfdir}/systemd/system-generators/systemd-gpt-auto-generator
    install -d ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/*.mount ${D}${systemd_system_unitdir}/
}

FILES:${PN} += "\
    /data \
    ${nonarch_libdir}/repart.d \
"
RDEPENDS:${PN} = "e2fsprogs-e2fsck"

CVE_PRODUCT = "v2g-edge:v2g-edge"
