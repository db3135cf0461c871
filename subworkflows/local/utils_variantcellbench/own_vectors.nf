//
// Encoders that are files of the user: --vectors PATH[,PATH...], each called as its file
//

def vectorFiles() {
    return (params.vectors ?: '').toString().tokenize(',').collect { item -> item.trim() }.findAll { item -> item }.collect { item -> file(item) }
}

// Files of --vectors by the name of their encoder
def ownVectors() {
    return vectorFiles().collectEntries { item -> [item.baseName, item] }
}
