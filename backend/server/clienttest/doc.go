// Package clienttest asks "nrt serve" with OpenAI's own Go client, so that what /v1
// says is what programs understand. It starts the binary that NRT names (bin/nrt by
// default) with the embedded models.
package clienttest
