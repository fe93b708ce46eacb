# nooelint: oelint.var.bbclassextend - it is for boxes alone
SUMMARY = "Who may log in"
DESCRIPTION = "The public keys of V2G_EDGE_AUTHORIZED_KEYS for root. Without that variable nobody logs in over SSH."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "base"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = "\
    file://LICENSE \
    ${@'file://' + d.getVar('V2G_EDGE_AUTHORIZED_KEYS') if d.getVar('V2G_EDGE_AUTHORIZED_KEYS') else ''} \
"

S = "${UNPACKDIR}"

inherit allarch v2g_edge_tree

do_install() {
    install -d ${D}${sysconfdir}/ssh/authorized_keys
    if [ -n "${V2G_EDGE_AUTHORIZED_KEYS}" ]; then
        install -m 0644 ${S}/${V2G_EDGE_AUTHORIZED_KEYS} ${D}${sysconfdir}/ssh/authorized_keys/root
    fi
}

CVE_PRODUCT = "v2g-edge:v2g-edge"
