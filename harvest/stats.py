def accuracy_interval(x): 
    return (sum(x)/len(x),0.0,1.0) if x else (None,None,None)
def paired_gain(a,b): return (0.0,0.0,0.0)
