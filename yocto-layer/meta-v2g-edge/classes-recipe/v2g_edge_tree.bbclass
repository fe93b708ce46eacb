# Recipes whose sources are those of the tree that this layer stands in (conf/layer.conf): SRC_URI names them below its root.
# nooelint: oelint.vars.bbvars.FILESPATH - one place for all these recipes
FILESPATH:prepend = "${V2G_EDGE_TREE}:"

# nooelint: oelint.task.noanonpython - a file that is not there would stop the parsing of all layers
python () {
    tree = d.getVar("V2G_EDGE_TREE")
    if not os.path.exists(os.path.join(tree, "configs/system")):
        raise bb.parse.SkipRecipe("%s is not the tree of v2g-edge: leave the layers in it, or set V2G_EDGE_TREE" % tree)
}
