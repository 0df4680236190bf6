"""What does the `reactivedb` command do: serve a folder, reload it on change, call a function?"""
