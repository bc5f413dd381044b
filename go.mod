module nrt

go 1.26
